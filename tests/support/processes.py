"""The processes that a test started: their children, their sockets, and those that are left."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

PROC = Path("/proc")


def children_of(pid: int) -> list[int]:
    """The ids of the living children of a process."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def is_running(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return _state(PROC / str(pid)) != "Z"
    except OSError:
        return False


def kill_children(pid: int) -> None:
    for child in children_of(pid):
        os.kill(child, signal.SIGKILL)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and all of its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def processes_of(home: Path) -> list[str]:
    """The command lines of the processes that were started for a home folder and still run.

    They have it in their environment or, if they were forked, write to a log in it.
    """
    command_lines = []
    for folder in PROC.glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        try:
            environ = (folder / "environ").read_bytes()
            output = os.readlink(folder / "fd" / "1")
            state = _state(folder)
            command_line = (folder / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile, or is another user's
            continue
        is_of_home = f"FARM_HOME={home}\0".encode() in environ or output.startswith(f"{home}/")
        if is_of_home and state != "Z":
            command_lines.append(command_line.replace(b"\0", b" ").decode())
    return command_lines


def _state(folder: Path) -> str:
    """The letter of a process's state in /proc: R, S, Z ..."""
    return (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]


def open_files(pid: int) -> set[str]:
    """What the open file descriptors of a process refer to, for example `socket:[4711]`."""
    files = (PROC / str(pid) / "fd").iterdir()
    return {os.readlink(file) for file in files if file.is_symlink()}


def tcp_sockets() -> list[list[str]]:
    """The columns of /proc/net/tcp, line by line: 1 local address, 3 state, 9 inode."""
    return [line.split() for line in (PROC / "net" / "tcp").read_text().splitlines()[1:]]
