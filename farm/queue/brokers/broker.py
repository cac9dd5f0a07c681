"""What the farm asks of a broker, whichever it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args

from farm.job import Priority
from farm.route import QUEUES, Queue
from farm.settings import Settings

StepOfJob = tuple[str, str]
"""A job's id and a step's."""

Resource = Literal["memory", "disk"]
RESOURCES: tuple[Resource, ...] = get_args(Resource)
"""What a broker raises an alarm about."""

EVERY_PRIORITY = ""
"""In place of a priority: a broker that counts the messages of a queue together."""


@dataclass(frozen=True)
class QueueState:
    length: int
    oldest: list[StepOfJob] | None = None
    """The steps of its oldest messages; None if the broker does not show them."""


@dataclass(frozen=True)
class BrokerState:
    """What a broker tells of itself; None is what it cannot tell."""

    queues: Mapping[tuple[Queue, str], QueueState]
    """By priority too, or for `EVERY_PRIORITY`."""
    unacked: int | None = None
    """Messages in the hands of workers."""
    memory_bytes: float | None = None
    aof_ok: bool | None = None
    """Whether Redis' append-only file is enabled and its last write succeeded."""
    evicted_keys: int | None = None
    alarms: Mapping[Resource, bool] = field(default_factory=dict)
    problem: str | None = None
    """Why it does not tell at the moment what it could."""


class Broker(Protocol):
    """A connection to the broker. Its methods raise FarmUnreachable."""

    priorities: ClassVar[Mapping[Priority, int]]
    """The priorities of messages, the most urgent first."""

    def __init__(self, settings: Settings) -> None: ...

    @staticmethod
    def celery_options(settings: Settings) -> dict[str, Any]:
        """The settings of Celery that depend on the broker."""

    @staticmethod
    def sender_options() -> dict[str, Any]:
        """Those of an application that sends steps: a broker that takes none is an error."""

    def version(self) -> str:
        """Its name and version."""

    def state(self) -> BrokerState: ...

    def queued(self, queues: Collection[Queue] = QUEUES) -> int:
        """Messages that wait in these queues, of all kinds."""

    def waiting_steps(self, queues: Collection[Queue] = QUEUES) -> Collection[StepOfJob] | None:
        """The steps of the messages in these queues; None if the broker does not show them."""

    def declare_queues(self) -> None:
        """Creates what is missing. InvalidInput if a queue is there with other arguments."""

    def close(self) -> None: ...
