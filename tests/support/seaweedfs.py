"""SeaweedFS, the S3 service of compose.yaml, with the interface of `Swift`."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from minio.error import S3Error
from urllib3.exceptions import HTTPError

from farm.local.process import spawn, stop, tail
from tests.support.ports import free_ports
from tests.support.swift import ACCESS_KEY, BIN, SECRET_KEY, Swift

SERVERS = ("master", "volume", "filer")


class SeaweedFS(Swift):
    """A running service: one process, of which clients know the S3 port only."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        names = ("proxy", *SERVERS, "proxy.grpc", *(f"{name}.grpc" for name in SERVERS))
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.endpoint = f"http://127.0.0.1:{self.ports['proxy']}"
        self.servers: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        ports = self.ports
        command = [
            *(str(BIN / "weed"), "server", f"-dir={self.root}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64"),
            "-volume.max=10000",  # each bucket has volumes of its own
            *(f"-{name}.port={ports[name]}" for name in SERVERS),
            *(f"-{name}.port.grpc={ports[f'{name}.grpc']}" for name in SERVERS),
            *("-s3", f"-s3.port={ports['proxy']}", f"-s3.port.grpc={ports['proxy.grpc']}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.domainName=localhost"),
            "-s3.autoCreateBucket=false",
        ]
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        self.proxy = spawn(command, log=self.root / "weed.log", environ={**os.environ, **keys})
        while not self._answers():
            assert self.proxy.poll() is None, tail(self.root / "weed.log")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self.client().list_buckets() is not None
        except (HTTPError, S3Error):  # not yet: its parts find each other one after the other
            return False

    def stop(self) -> None:
        stop([self.proxy], grace_s=0)
