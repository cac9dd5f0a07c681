"""RabbitMQ as the broker, from 4.0 on: quorum queues, which it counts but does not show."""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed
from kombu import Connection, Exchange
from kombu import Queue as MessageQueue
from kombu.transport import pyamqp

from farm.errors import FarmUnreachable, InvalidInput
from farm.job import Priority
from farm.net.authorities import checked_authorities
from farm.queue.brokers.broker import (
    EVERY_PRIORITY,
    RESOURCES,
    BrokerState,
    QueueState,
    Resource,
)
from farm.queue.brokers.rabbitmq_api import ManagementApi
from farm.route import QUEUES, Queue
from farm.settings import Settings

CONNECT_TIMEOUT_S = 5.0
SILENT_S = 5.0
"""Seconds after which a server that answers nothing is given up."""

EXCHANGE = "infinitetalk-farm"

QUEUE_ARGUMENTS = {
    # Replicated and on disk; a message outlives each node that is lost.
    "x-queue-type": "quorum",
    # By default a message vanishes with its 21st return. Each drain returns one. With no limit at
    # all RabbitMQ 4.0 puts it behind the others instead of in front of them.
    "x-delivery-limit": 1_000_000,
    # In milliseconds: a week, longer than any step. By default a worker loses its connection over
    # a step of 30 minutes. A lease expires long before, so no step waits for this.
    "x-consumer-timeout": 7 * 86_400_000,
}
"""Equal for all farms and versions: a queue that is there refuses other ones."""

INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>queue|exchange) '(?P<name>[^']*)' "
    r"in vhost '(?P<vhost>[^']*)': (?P<difference>.*)"
)
"""What RabbitMQ says of a queue or an exchange that is there with other arguments (406)."""

PAGE = "docs/operations/rabbitmq.md"


class RabbitMQBroker:
    priorities: ClassVar[Mapping[Priority, int]] = {"high": 6, "normal": 3, "low": 0}
    """RabbitMQ delivers higher ones first. 4.0 tells only those above 4 from the others."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._api = ManagementApi(settings) if settings.broker_api else None

    @staticmethod
    def celery_options(settings: Settings) -> dict[str, Any]:
        return {
            "task_queues": queues(settings),
            # Redis' alone; here a consumer gets no message while it holds one.
            "worker_disable_prefetch": False,
            # A channel that RabbitMQ closes ends no worker: it connects anew.
            "broker_channel_error_retry": True,
            # A publish returns once the message is on the disks of most nodes.
            "broker_transport_options": {"confirm_publish": True},
            "broker_use_ssl": _tls(settings),
        }

    @staticmethod
    def sender_options() -> dict[str, Any]:
        # Not for Flower, which does not know RabbitMQ behind another transport.
        return {
            "broker_transport": f"{__name__}:RaisingTransport",
            "broker_transport_options": {"confirm_publish": True, "on_blocked": raise_blocked},
        }

    def version(self) -> str:
        with self._connection() as connection:
            properties = connection.connection.server_properties
        return f"{properties['product']} {properties['version']}"

    def state(self) -> BrokerState:
        lengths = self._lengths()
        queues: dict[tuple[Queue, str], QueueState] = {
            (queue, EVERY_PRIORITY): QueueState(length) for queue, length in lengths.items()
        }
        if self._api is None:
            return BrokerState(queues)
        try:
            alarmed = self._api.alarmed()
            alarms: dict[Resource, bool] = {each: each in alarmed for each in RESOURCES}
            return BrokerState(
                queues,
                unacked=self._api.unacked(QUEUES),
                memory_bytes=self._api.memory_bytes(),
                alarms=alarms,
            )
        except FarmUnreachable as error:
            return BrokerState(queues, problem=error.message)

    def queued(self, queues: Collection[Queue] = QUEUES) -> int:
        return sum(self._lengths(queues).values())

    def waiting_steps(self, queues: Collection[Queue] = QUEUES) -> None:
        """RabbitMQ shows a message only to its consumer."""
        return

    def declare_queues(self) -> None:
        with self._connection() as connection, connection.channel() as channel:
            try:
                for queue in queues(self._settings):
                    queue(channel).declare()
            except PreconditionFailed as error:
                raise declared_otherwise(error) from error

    def close(self) -> None:
        """Nothing: each question has a connection of its own."""

    def _lengths(self, queues: Collection[Queue] = QUEUES) -> dict[Queue, int]:
        """Messages of each queue that wait for a worker."""
        with self._connection() as connection:
            return {queue: _length(connection, queue) for queue in queues}

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        connection = Connection(
            self._settings.broker_address,
            ssl=_tls(self._settings),
            connect_timeout=CONNECT_TIMEOUT_S,
            transport_options={"read_timeout": SILENT_S, "write_timeout": SILENT_S},
        )
        errors = connection.connection_errors + connection.channel_errors
        try:
            with connection:
                connection.connect()
                yield connection
        except errors as error:
            raise _unreachable(connection, error) from error


def queues(settings: Settings) -> list[MessageQueue]:
    """The farm's queues.

    Their exchange holds the farm's name, in place of an exchange for messages without a queue, of
    which there are none: two farms in one virtual host are refused by RabbitMQ.
    """
    exchange = Exchange(EXCHANGE, arguments={"alternate-exchange": f"{settings.name}.unrouted"})
    return [
        MessageQueue(name, exchange, routing_key=name, queue_arguments=QUEUE_ARGUMENTS)
        for name in QUEUES
    ]


class RaisingConnection(pyamqp.Connection):
    """A connection that can be closed although RabbitMQ has blocked it, and so does not answer."""

    def _on_blocked(self) -> None:
        if self.on_blocked is not None:
            self.collect()
        super()._on_blocked()


class RaisingTransport(pyamqp.Transport):
    Connection = RaisingConnection


def raise_blocked(_: str) -> None:
    """What py-amqp calls when it has published a message that RabbitMQ does not take."""
    raise FarmUnreachable(
        "RabbitMQ takes no messages at the moment: its memory or its disk is full "
        "(`farm doctor` says which)"
    )


def declared_otherwise(error: Exception) -> InvalidInput:
    """The error for RabbitMQ's 406: which queue has other arguments than ours, and what to do."""
    found = INEQUIVALENT.search(str(error))
    if found is None:
        return InvalidInput(f"FARM_BROKER_URL: RabbitMQ refuses the farm's queues ({error})")
    if found["kind"] == "exchange":
        return InvalidInput(
            f"FARM_BROKER_URL: got virtual host {found['vhost']}, which another farm uses "
            f"({found['difference']}); allowed: a virtual host of its own, see {PAGE}"
        )
    return InvalidInput(
        f"FARM_BROKER_URL: queue {found['name']} in virtual host {found['vhost']} has another "
        f"{found['argument']} ({found['difference']}); allowed: ours. Stop the workers and delete "
        f"the queue; what waited in it is sent again, see {PAGE}"
    )


def _length(connection: Connection, queue: Queue) -> int:
    """Messages that wait in a queue; 0 if no worker and no client has declared it yet."""
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            return 0


def _tls(settings: Settings) -> dict[str, Any] | None:
    """TLS with the server's certificate and name checked; None without TLS."""
    if not settings.broker_address.startswith("amqps://"):
        return None
    # None: kombu fills in the host of the URL, without which the name is not checked.
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    if settings.broker_ca is not None:
        file = checked_authorities(settings.broker_ca, variable="FARM_BROKER_CA")
        options["ca_certs"] = str(file)
    return options


def _unreachable(connection: Connection, error: Exception) -> FarmUnreachable:
    where = f"{connection.hostname}:{connection.port}"
    if isinstance(error, AccessRefused):
        return FarmUnreachable(f"RabbitMQ at {where} refuses the user ({error})", retryable=False)
    return FarmUnreachable(f"no RabbitMQ answers at {where}; is it up? ({error})")
