"""A batch under way: never more than so many of its jobs at once, and each row's outcome as it comes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from farm.batch.results import INVALID, Outcome, Results, of_job, of_mistake
from farm.batch.rows import Row, rows
from farm.client import Farm, Job
from farm.errors import FarmUnreachable, InvalidInput, UploadFailed
from farm.job import JobStatus
from farm.retry import retry_until

LOOK_EVERY_S = 0.5
PATIENCE_S = 300.0
"""How long a broker or a store that is away is waited for."""

Answer = TypeVar("Answer")


class Order(BaseModel):
    """Which file becomes which results, and how: what the farm remembers of a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path
    out: Path
    priority: Literal["low", "normal", "high"] = Field("low", description="low, normal or high")
    in_flight: int = Field(20, ge=1, description="1 or more")

    @property
    def id(self) -> str:
        """The same for the same file, so that the same command goes on with it."""
        return _digest(str(self.file))[:12]


def remember(farm: Farm, order: Order) -> None:
    """Notes a batch, for `remembered`."""
    farm.context.store.put(_key(order.id), order.model_dump_json().encode())


def remembered(farm: Farm, batch_id: str) -> Order:
    """The batch that was noted under an id; InvalidInput if there is none."""
    try:
        return Order.model_validate_json(farm.context.store.get(_key(batch_id)))
    except (KeyError, InvalidInput):
        raise InvalidInput(
            f"batch: got {batch_id!r}; there is no such batch (`farm batch run` prints its id)"
        ) from None


@dataclass
class Batch:
    """Rows on their way through a farm. `flying` are those whose jobs have not ended.

    What failed before it `began`, on the farm's clock, is tried again. FarmUnreachable if no broker tells the time.
    """

    farm: Farm
    order: Order
    results: Results
    flying: dict[str, Job] = field(default_factory=dict)
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = patiently(self.farm.now)

    def run(self) -> Iterator[Outcome]:
        """The outcome of every row that has no video yet, as it ends, after it was written down.

        FarmUnreachable or UploadFailed once the farm was away for long, or has lost its jobs; whoever stops reading
        leaves the farm working.
        """
        for row in rows(self.order.file):
            if row.name in self.results.done and not row.mistake:
                continue
            while len(self.flying) >= self.order.in_flight:
                yield from self._landed()
            try:
                self.flying[row.name] = self._job(row)
            except InvalidInput as mistake:
                yield self._write(of_mistake(row.name, mistake))
        while self.flying:
            yield from self._landed()

    def _landed(self) -> Iterator[Outcome]:
        """What has ended since; a pause if nothing has."""
        ended = False
        for name, job in list(self.flying.items()):
            status = self._status(job)
            if status.ended:
                ended = True
                del self.flying[name]
                yield self._write(of_job(name, status))
        if not ended:
            time.sleep(LOOK_EVERY_S)

    def _status(self, job: Job) -> JobStatus:
        try:
            return patiently(job.status)
        except InvalidInput as error:
            again = "`farm recover`, then the same command again"
            raise FarmUnreachable(
                f"the broker has lost job {job.id}; {again}", retryable=False
            ) from error

    def _write(self, outcome: Outcome) -> Outcome:
        self.results.add(outcome)
        return outcome

    def _job(self, row: Row) -> Job:
        """The job of a row: the one that an earlier run entered, unless it ended without a video."""
        request = row.request()
        fields: dict[str, Any] = {
            **request.model_dump(mode="json"),
            "priority": self.order.priority,
        }
        if request.idempotency_key:
            return self._submitted(fields)
        attempts = (
            self._submitted(
                {**fields, "idempotency_key": _digest(f"{self.order.file}\0{row.name}\0{attempt}")}
            )
            for attempt in count()
        )
        return next(job for job in attempts if not self._failed_before(job))

    def _failed_before(self, job: Job) -> bool:
        status = self._status(job)
        return status.state in ("error", "cancelled") and status.created_at < self.began

    def _submitted(self, fields: dict[str, Any]) -> Job:
        return patiently(lambda: self.farm.submit(fields))


def patiently(call: Callable[[], Answer]) -> Answer:
    """The result of a call to the farm, repeated for a while if the broker or the store is down."""
    return retry_until(call, timeout_s=PATIENCE_S, is_retryable=_is_down, delay_s=LOOK_EVERY_S)


def _is_down(error: Exception) -> bool:
    return isinstance(error, FarmUnreachable | UploadFailed) and error.retryable


def summary(counts: dict[str, int]) -> str:
    """How many rows ended how, in words."""
    named = {
        "success": "videos",
        INVALID: "invalid rows",
        "error": "failed",
        "cancelled": "cancelled",
    }
    return (
        ", ".join(
            f"{counts[status]} {words}" for status, words in named.items() if counts.get(status)
        )
        or "nothing"
    )


def _key(batch_id: str) -> str:
    return f"batches/{batch_id}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
