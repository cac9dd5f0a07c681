"""A real S3 service that checks signatures: OpenStack Swift with s3api and tempauth.

Four processes on free ports of the loopback, as in Swift's own all-in-one: proxy, account,
container and object server, with one replica in a folder.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from minio import Minio

from farm.local.process import spawn, stop, tail
from farm.settings import Settings
from farm.store import Store, open_store
from tests.support.ports import free_ports, listens

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
SERVERS = ("account", "container", "object")
"""The servers behind the proxy."""

ACCESS_KEY = "farm:worker"
SECRET_KEY = "the-secret-of-the-farm"
STRANGERS_KEY = "other:person"
STRANGERS_SECRET = "the-secret-of-another"

PAGE = 5
"""Keys in one page of a listing, so that tests need a second one; elsewhere it is 1,000."""

COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {root}
devices = {root}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
user = {user}
workers = 0
"""

SERVER = """
[pipeline:main]
pipeline = {server}-server

[app:{server}-server]
use = egg:swift#{server}
# A listing shows what was just put, however busy the machine is.
container_update_timeout = 60
"""

PROXY = """
[pipeline:main]
pipeline = catch_errors healthcheck cache listing_formats bulk s3api tempauth slo
    versioned_writes proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:healthcheck]
use = egg:swift#healthcheck

[filter:cache]
paste.filter_factory = tests.support.swift_cache:filter_factory

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:bulk]
use = egg:swift#bulk

[filter:s3api]
use = egg:swift#s3api
storage_domain = localhost
max_bucket_listing = {page}

[filter:tempauth]
use = egg:swift#tempauth
user_farm_worker = {secret} .admin
user_other_person = {strangers_secret} .admin

[filter:slo]
use = egg:swift#slo

[filter:versioned_writes]
use = egg:swift#versioned_writes
"""

RINGS = """
import sys
from swift.common.ring import RingBuilder
root, *ports = sys.argv[1:]
for server, port in zip(("account", "container", "object"), ports):
    ring = RingBuilder(1, 1, 0)
    ring.add_dev(dict(region=1, zone=1, weight=1, ip="127.0.0.1", port=int(port), device="disk"))
    ring.rebalance()
    ring.get_ring().save(f"{root}/{server}.ring.gz")
"""


class Swift:
    """A running service; `endpoint` is its URL."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = dict(zip((*SERVERS, "proxy"), free_ports(4), strict=True))
        self.endpoint = f"http://127.0.0.1:{self.ports['proxy']}"
        self._write_files()
        self.servers = [self._start(server) for server in SERVERS]
        self.start()

    def settings(self, **changes: Any) -> Settings:
        """Settings of a farm that keeps its objects here, in a new bucket."""
        bucket = f"farm-{uuid.uuid4().hex}"
        self.client().make_bucket(bucket)
        settings: dict[str, Any] = {
            "store_url": f"s3://{bucket}/of/a-farm",
            "s3_endpoint": self.endpoint,
            "s3_access_key": ACCESS_KEY,
            "s3_secret_key": SECRET_KEY,
            "store_retry_s": 10,
        }
        return Settings.model_validate({**settings, **changes})

    def client(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Minio:
        """A client of the service that uses none of the farm's code."""
        host = self.endpoint.removeprefix("http://")
        return Minio(host, access_key, secret_key, secure=False, region="us-east-1")

    def start(self) -> None:
        """Starts the proxy, the only process that clients connect to."""
        self.proxy = self._start("proxy")
        while not all(listens(port) for port in self.ports.values()):
            assert self.proxy.poll() is None, tail(self.root / "proxy.log")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kills the proxy: connections break, new ones are refused."""
        stop([self.proxy], grace_s=0)

    def stop(self) -> None:
        stop([self.proxy, *self.servers], grace_s=0)

    def _write_files(self) -> None:
        (self.root / "devices" / "disk").mkdir(parents=True)
        (self.root / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
        for name, port in self.ports.items():
            common = COMMON.format(root=self.root, port=port, user=getpass.getuser())
            (self.root / f"{name}.conf").write_text(common + _pipeline(name))
        ports = [str(self.ports[server]) for server in SERVERS]
        subprocess.run([sys.executable, "-c", RINGS, str(self.root), *ports], check=True)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = [str(BIN / f"swift-{name}-server"), str(self.root / f"{name}.conf"), "-v"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}  # of its cache
        return spawn(command, log=self.root / f"{name}.log", environ=environ)


def opened(settings: Settings) -> Store:
    return open_store(settings.store_address, settings)


def bucket_of(settings: Settings) -> str:
    return urlsplit(settings.store_address).netloc


def _pipeline(name: str) -> str:
    """The part of the configuration of one server that is not common to all."""
    if name == "proxy":
        return PROXY.format(secret=SECRET_KEY, strangers_secret=STRANGERS_SECRET, page=PAGE)
    return SERVER.format(server=name)
