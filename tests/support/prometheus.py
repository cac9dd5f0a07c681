"""A real Prometheus with the shipped configuration, which scrapes more often and other ports."""

from __future__ import annotations

import json
import shutil
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

from tests.support.ports import free_port
from tests.support.programs import installed_program
from tests.support.queries import DOCKER

SHIPPED_PORT = 9464
"""The port of the exporter in the shipped configuration; those of the workers follow."""

Ask = Callable[..., Any]
"""`ask(path, **parameters)` returns the `data` of a response of the HTTP API."""


@contextmanager
def prometheus(folder: Path, *, first_port: int) -> Iterator[Ask]:
    """Prometheus beside a farm whose metrics begin at `first_port`; its files are in a folder."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        installed_program("prometheus"),
        f"--config.file={_write_config(folder, first_port)}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(path: str, **parameters: str) -> Any:
        return _get(f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")

    try:
        _wait_until_ready(f"http://{address}/-/ready", process, folder / "log")
        yield ask
    finally:
        process.terminate()
        process.wait()


def _write_config(folder: Path, first_port: int) -> Path:
    shipped = DOCKER / "prometheus"
    config = yaml.safe_load((shipped / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        for static in job["static_configs"]:
            ports = [int(target.rpartition(":")[2]) for target in static["targets"]]
            static["targets"] = [f"127.0.0.1:{port - SHIPPED_PORT + first_port}" for port in ports]
    for file in config["rule_files"]:
        shutil.copy(shipped / file, folder)
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
        time.sleep(0.1)


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as refused:
        raise AssertionError(refused.read().decode()) from refused
