"""A Runpod account on 127.0.0.1: its REST API about endpoints, with the rules of its reference.

https://docs.runpod.io/api-reference-v2/serverless/create-a-serverless-endpoint
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.api_server import Answer, ApiServer, Request

KEY = "rpa_TESTKEY0123"
BASE_FIELDS = {
    *("name", "gpu", "workers", "scaling", "dataCenterIds", "networkVolumes", "timeout"),
    *("flashboot", "image", "args", "disk", "ports", "env", "registry", "templateId"),
}
DEFAULTS = {
    "args": "",
    "disk": 20,
    "ports": [],
    "env": {},
    "registry": None,
    "dataCenterIds": [],
    "networkVolumes": [],
    "timeout": 300_000,
    "flashboot": "OFF",
}
CATALOG = [
    {"id": "NVIDIA L40S", "pool": "ADA_48_PRO", "price": {"secure": 0.9, "serverless": 1.9}},
    {"id": "NVIDIA L40", "pool": "ADA_48_PRO", "price": {"secure": 0.8, "serverless": 1.75}},
    {"id": "NVIDIA A100 80GB", "pool": "AMPERE_80", "price": {"secure": 1.6, "serverless": 2.72}},
    {"id": "NVIDIA RTX 4090", "pool": None, "price": {"secure": 0.4}},
]


class Refused(Exception):
    """A request that the API refuses: its status, and its sentence."""


class RestServer(ApiServer):
    """Endpoints by id, and what a test says of their workers and their costs.

    Answers that a test scripts come first; the queue API is under `/queue`.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, list[dict[str, Any]]] = {}
        self.costs: list[dict[str, Any]] = []

    def sent(self, method: str) -> list[Request]:
        """The requests of one method."""
        return [each for each in self.requests if each.method == method]

    def answer(self, request: Request) -> Answer:
        if self.answers[str(request)]:
            return super().answer(request)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return _problem(401, "Unauthorized", "missing bearer token")
        try:
            return self._route(request)
        except Refused as refused:
            status, detail = refused.args
            return _problem(status, "Refused", detail)

    def _route(self, request: Request) -> Answer:
        url = urlsplit(request.path)
        match [request.method, *url.path.strip("/").split("/")]:
            case ["GET", "v2", "catalog", "gpus"]:
                return _json({"gpus": CATALOG})
            case ["GET", "v2", "billing", "serverless"]:
                return _json({"records": self._records(parse_qs(url.query)), "metadata": {}})
            case ["POST", "v2", "serverless"]:
                return self._create(request.json)
            case ["GET", "v2", "serverless", name, "workers"]:
                self._known(name)
                return _json({"workers": self.workers.get(name, []), "endpointVersion": 4})
            case ["GET", "v2", "serverless", name]:
                return _json(self._known(name))
            case ["PATCH", "v2", "serverless", name]:
                return self._update(self._known(name), request.json)
            case ["DELETE", "v2", "serverless", name]:
                self._known(name)
                del self.endpoints[name]
                return Answer(204, b"", {})
        raise Refused(404, "resource not found")

    def _known(self, name: str) -> dict[str, Any]:
        if name not in self.endpoints:
            raise Refused(404, "resource not found")
        return self.endpoints[name]

    def _records(self, query: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        return [each for each in self.costs if each["serverlessId"] in query["serverlessId"]]

    def _create(self, body: dict[str, Any]) -> Answer:
        _check(body, BASE_FIELDS | {"type"})
        for required in ("name", "type", "scaling", "image"):
            if required not in body:
                raise Refused(422, f"{required} is required")
        name = f"ep{len(self.endpoints) + 1}"
        workers = {"min": 0, "max": 3, **body.get("workers", {})}
        gpu = {"allowedCudaVersions": [], "minCudaVersion": None, "count": 1, **body["gpu"]}
        made = {**DEFAULTS, **body, "workers": workers, "gpu": gpu, "id": name}
        self.endpoints[name] = {**made, "createdAt": "2026-06-01T12:00:00Z"}
        return _json(self.endpoints[name], 201)

    def _update(self, endpoint: dict[str, Any], body: dict[str, Any]) -> Answer:
        _check(body, BASE_FIELDS)
        for name in ("workers", "gpu"):
            if name in body:
                body[name] = {**endpoint[name], **body[name]}
        if "gpu" in body:
            body["gpu"]["minCudaVersion"] = body["gpu"]["minCudaVersion"] or None
        endpoint.update(body)
        return _json(endpoint)


def _check(body: dict[str, Any], fields: set[str]) -> None:
    for name in body.keys() - fields:
        raise Refused(422, f"unknown field {name}")
    scaling = body.get("scaling") or {}
    if scaling.get("type") == "REQUEST_COUNT" and "idleTimeout" in body.get("workers", {}):
        raise Refused(400, "idleTimeout is not applicable")
    gpu = body.get("gpu") or {}
    if gpu.get("minCudaVersion") and gpu.get("allowedCudaVersions"):
        raise Refused(400, "minCudaVersion and allowedCudaVersions are mutually exclusive")


def _json(content: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(content).encode(), {})


def _problem(status: int, title: str, detail: str) -> Answer:
    content = {"title": title, "status": status, "detail": detail}
    return Answer(
        status, json.dumps(content).encode(), {"Content-Type": "application/problem+json"}
    )
