"""A real Prometheus that reads a farm as the shipped configuration says, only more often and at other ports."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.programs import program
from tests.support.queries import DOCKER

SHIPPED_PORT = 9464
"""Where the shipped configuration finds the farm's own numbers; the workers' come after."""

Ask = Callable[..., Any]
"""`ask(path, **parameters)` is the `data` of an answer of its HTTP API."""


@contextmanager
def prometheus(folder: Path, *, first_port: int) -> Iterator[Ask]:
    """Prometheus in a folder of its own, beside a farm whose numbers begin at `first_port`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        program("prometheus"),
        f"--config.file={_configured(folder, first_port)}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _comes_up(f"http://{address}/-/ready", process, folder / "log")
        yield lambda path, **parameters: _asked(f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    finally:
        process.terminate()
        process.wait()


def _configured(folder: Path, first_port: int) -> Path:
    shipped = DOCKER / "prometheus"
    config = yaml.safe_load((shipped / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        for each in job["static_configs"]:
            ports = [int(target.rpartition(":")[2]) for target in each["targets"]]
            each["targets"] = [f"127.0.0.1:{port - SHIPPED_PORT + first_port}" for port in ports]
    for file in config["rule_files"]:
        shutil.copy(shipped / file, folder)
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _comes_up(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _asked(address: str) -> Any:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as refused:
        raise AssertionError(refused.read().decode()) from refused
