"""A gateway in a thread of the test's process, and a client that sends what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urllib3 import PoolManager

from farm.client import Farm
from farm.gateway.app import Gateway
from farm.gateway.body import Limits
from farm.gateway.server import GatewayServer
from farm.local.broker import Broker
from farm.net.address import ListenAddress
from farm.settings import Settings
from tests.support.ports import free_port

POOL = PoolManager(maxsize=32)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any
    content: bytes = b""

    @property
    def message(self) -> str:
        """The message of the contract's error."""
        return str(self.body["error"]["message"])

    @property
    def field(self) -> str | None:
        """The field of the first mistake that an error names."""
        mistakes = self.body["error"]["mistakes"]
        return str(mistakes[0]["field"]) if mistakes else None


@dataclass(frozen=True)
class Client:
    """Calls the API with a key, or without one."""

    url: str
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        given = {"Content-Type": "application/json", **self.headers, **headers}
        if self.key is not None:
            given["Authorization"] = f"Bearer {self.key}"
        response = POOL.request(
            method, f"{self.url}{path}", body=body, headers=given, redirect=False, retries=False
        )
        is_json = response.headers.get("content-type") == "application/json"
        content = response.data
        read = json.loads(content) if is_json else content.decode("utf-8", "replace")
        return Answer(response.status, response.headers, read, content)

    def submit_v1(self, fields: Mapping[str, Any]) -> str:
        """The id of a job that the farm's own API has accepted."""
        answer = self.send("POST", "/v1/jobs", json.dumps(fields).encode())
        assert answer.status == 201, answer.body
        return str(answer.body["job_id"])

    def get(self, path: str) -> Answer:
        return self.send("GET", f"/v2/any/{path}")

    def post(self, path: str, fields: Any = None) -> Answer:
        body = b"" if fields is None else json.dumps(fields).encode()
        return self.send("POST", f"/v2/any/{path}", body)

    def submit(self, fields: Mapping[str, Any], **envelope: Any) -> str:
        """The id of a job that was accepted."""
        answer = self.post("run", {"input": fields, **envelope})
        assert answer.status == 200, answer.body
        return str(answer.body["id"])


@contextmanager
def farm_of_strangers(home: Path) -> Iterator[Farm]:
    """A farm without workers, with a broker of its own, that reads no files of this machine."""
    broker = Broker(Settings(home=home))
    settings = Settings(home=home, broker_url=broker.url, store_url="memory://")
    yield Farm(settings=settings, local_files=False)
    broker.stop()


@contextmanager
def running_gateway(
    farm: Farm, *, is_open: bool = True, limits: Limits | None = None
) -> Iterator[Client]:
    """A gateway at a free port, and its client without a key."""
    address = ListenAddress("127.0.0.1", free_port())
    ready = threading.Event()
    gateway = Gateway(farm, is_open=is_open, limits=limits)
    server = GatewayServer(gateway, address, ready.set)
    thread = threading.Thread(target=server.run, name="gateway")
    thread.start()
    try:
        ready.wait()
        yield Client(address.url)
    finally:
        server.handle_exit(15, None)
        thread.join()
