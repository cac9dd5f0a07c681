"""`farm gateway` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from farm.settings import Settings
from tests.support.commands import environ_of, read_until, start_farm_command


def start_gateway(settings: Settings, port: int) -> subprocess.Popen[str]:
    """A gateway that listens."""
    address = f"127.0.0.1:{port}"
    process = start_farm_command(environ_of(settings), "gateway", "--address", address)
    read_until(process, f"the gateway is at http://{address}/v2")
    return process


def end_process(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    process.communicate()
    return process.returncode


@contextmanager
def gateway_process(settings: Settings, port: int) -> Iterator[subprocess.Popen[str]]:
    process = start_gateway(settings, port)
    try:
        yield process
    finally:
        if process.poll() is None:
            end_process(process)


def client_environ(port: int, key: str) -> Mapping[str, str]:
    """The variables by which Runpod's clients find a gateway."""
    return {
        "RUNPOD_ENDPOINT_BASE_URL": f"http://127.0.0.1:{port}/v2",
        "RUNPOD_API_KEY": key,
    }
