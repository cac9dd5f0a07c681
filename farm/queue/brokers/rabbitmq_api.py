"""RabbitMQ's management API: what AMQP does not tell."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Collection
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from kombu.utils.url import parse_url

from farm.errors import FarmUnreachable
from farm.net.authorities import checked_authorities
from farm.queue.brokers.broker import Resource
from farm.settings import Settings

TIMEOUT_S = 5.0

RESOURCE_NAMES: dict[str, Resource] = {"memory": "memory", "disk": "disk", "disk space": "disk"}
"""Resources as its alarms call them."""


class ManagementApi:
    """The API at FARM_BROKER_API. Its methods raise FarmUnreachable."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.broker_api or "")
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._token = b64encode(login.encode()).decode()
        self._vhost = quote(parse_url(settings.broker_address)["virtual_host"] or "/", safe="")
        self._context = None
        if parts.scheme == "https":
            authorities = settings.broker_ca and checked_authorities(
                settings.broker_ca, variable="FARM_BROKER_CA"
            )
            self._context = ssl.create_default_context(cafile=authorities)

    def alarmed(self) -> set[Resource]:
        """What any node of the cluster is short of, so that RabbitMQ takes no messages."""
        answer = self._get("health/checks/alarms", accept=503)
        alarmed = {alarm["resource"] for alarm in answer.get("alarms", [])}
        return {RESOURCE_NAMES[each] for each in alarmed & RESOURCE_NAMES.keys()}

    def unacked(self, queues: Collection[str]) -> int | None:
        """Messages of these queues in the hands of workers; None before they are counted."""
        found = self._get(f"queues/{self._vhost}")
        counts = [each.get("messages_unacknowledged") for each in found if each["name"] in queues]
        return None if None in counts else sum(counts)

    def memory_bytes(self) -> float | None:
        """Memory of the node that uses most; None before it is measured."""
        used = [node["mem_used"] for node in self._get("nodes") if "mem_used" in node]
        return max(used, default=None)

    def _get(self, path: str, *, accept: int = 200) -> Any:
        """The answer to a request; one of another status than 200 and `accept` is an error."""
        request = urllib.request.Request(f"{self._base}/api/{path}")  # noqa: S310
        request.add_header("Authorization", f"Basic {self._token}")
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=TIMEOUT_S, context=self._context
            ) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == accept:
                    return json.load(error)
            raise self._unreachable(f"status {error.code}") from error
        except (OSError, ValueError) as error:
            raise self._unreachable(str(error)) from error

    def _unreachable(self, reason: str) -> FarmUnreachable:
        return FarmUnreachable(
            f"FARM_BROKER_API: RabbitMQ's management API does not answer at {self._base} ({reason})"
        )
