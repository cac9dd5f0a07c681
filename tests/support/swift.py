"""A real S3 service that checks signatures: OpenStack Swift with s3api and tempauth, on free ports of the loopback.

Four processes, as in Swift's own all-in-one: proxy, account, container and object server, one replica in a folder.
"""

from __future__ import annotations

import getpass
import os
import socket
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

BIN = Path(sys.executable).parent
ROOMS = ("account", "container", "object")
START_S = 60.0

ACCESS_KEY, SECRET_KEY = "farm:worker", "the-secret-of-the-farm"
STRANGERS_KEY, STRANGERS_SECRET = "other:person", "the-secret-of-another"

PAGE = 5
"""Keys in one answer to a listing, a thousand elsewhere: so that a test meets a second page."""

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

ROOM = """
[pipeline:main]
pipeline = {room}-server

[app:{room}-server]
use = egg:swift#{room}
# A listing shows what was put just before, however busy the machine is.
container_update_timeout = 60
"""

PROXY = """
[pipeline:main]
pipeline = catch_errors healthcheck cache listing_formats bulk s3api tempauth slo versioned_writes proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:healthcheck]
use = egg:swift#healthcheck

[filter:cache]
use = egg:swift#memcache
# There is none: nothing is remembered between two requests.
memcache_servers = 127.0.0.1:1

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
for room, port in zip(("account", "container", "object"), ports):
    ring = RingBuilder(1, 1, 0)
    ring.add_dev(dict(region=1, zone=1, weight=1, ip="127.0.0.1", port=int(port), device="disk"))
    ring.rebalance()
    ring.get_ring().save(f"{root}/{room}.ring.gz")
"""


class Swift:
    """A running service; `endpoint` is its URL."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = dict(zip((*ROOMS, "proxy"), free_ports(4), strict=True))
        self.endpoint = f"http://127.0.0.1:{self.ports['proxy']}"
        self._lay_out()
        self.rooms = [self._start(room) for room in ROOMS]
        self.start()

    def settings(self, **changes: Any) -> Settings:
        """Settings of a farm that keeps its goods here, in a bucket of its own."""
        bucket = f"goods-{uuid.uuid4().hex}"
        self.client().make_bucket(bucket)
        ours: dict[str, Any] = {
            "store_url": f"s3://{bucket}/of/a-farm",
            "s3_endpoint": self.endpoint,
            "s3_access_key": ACCESS_KEY,
            "s3_secret_key": SECRET_KEY,
            "store_retry_s": 10,
        }
        return Settings.model_validate({**ours, **changes})

    def client(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Minio:
        """A way to the service that passes the farm's code by."""
        host = self.endpoint.removeprefix("http://")
        return Minio(host, access_key, secret_key, secure=False, region="us-east-1")

    def start(self) -> None:
        """Starts the proxy, the one process that clients talk to."""
        self.proxy = self._start("proxy")
        deadline = time.monotonic() + START_S
        while not all(listens(port) for port in self.ports.values()):
            assert self.proxy.poll() is None, tail(self.root / "proxy.log")
            assert time.monotonic() < deadline, tail(self.root / "proxy.log")
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends the proxy without a word: connections break, new ones are refused."""
        stop([self.proxy], grace_s=0)

    def stop(self) -> None:
        stop([self.proxy, *self.rooms], grace_s=0)

    def _lay_out(self) -> None:
        (self.root / "devices" / "disk").mkdir(parents=True)
        (self.root / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
        for name, port in self.ports.items():
            body = (
                PROXY.format(secret=SECRET_KEY, strangers_secret=STRANGERS_SECRET, page=PAGE)
                if name == "proxy"
                else ROOM
            )
            common = COMMON.format(root=self.root, port=port, user=getpass.getuser())
            (self.root / f"{name}.conf").write_text(common + body.replace("{room}", name))
        ports = [str(self.ports[room]) for room in ROOMS]
        subprocess.run([sys.executable, "-c", RINGS, str(self.root), *ports], check=True)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = [str(BIN / f"swift-{name}-server"), str(self.root / f"{name}.conf"), "-v"]
        return spawn(command, log=self.root / f"{name}.log", environ=os.environ)


def opened(settings: Settings) -> Store:
    return open_store(settings.store_address, settings)


def bucket_of(settings: Settings) -> str:
    return urlsplit(settings.store_address).netloc


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
