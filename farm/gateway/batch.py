"""Several videos under one id: the contract's batch, as one job of Runpod's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from farm.client import Job
from farm.engine.context import Context
from farm.errors import FarmError, InvalidInput, QuotaExceeded
from farm.gateway.access import Tenant
from farm.gateway.answers import IN_QUEUE, STATES, state_of
from farm.gateway.envelope import Envelope
from farm.gateway.refusal import error_object, refuse
from farm.gateway.video import CANCELLED_BY
from farm.job import Failure, JobStatus
from farm.job.files import batch_items
from farm.registry.batches import Batch, BatchItem
from farm.registry.status_record import outline, unknown_job

PREFIX = "batch-"
MAX_ITEMS = 100

Request = dict[str, Any] | InvalidInput


@dataclass(frozen=True)
class Videos:
    """A batch of a tenant, and the statuses of its jobs."""

    ctx: Context
    batch: Batch
    statuses: dict[str, JobStatus]

    @classmethod
    def of(cls, ctx: Context, batch: Batch) -> Videos:
        texts = ctx.registry.jobs.texts(batch.job_ids)
        found = zip(batch.job_ids, texts, strict=True)
        return cls(ctx, batch, {each: outline(each, text) for each, text in found if text})

    @classmethod
    def submit(cls, ctx: Context, tenant: Tenant, envelope: Envelope) -> Videos:
        """A new batch. An item that is refused stops no other."""
        items = list(batch_items(envelope.batch))
        if not 0 < len(items) <= MAX_ITEMS:
            raise InvalidInput(f"batch: got {len(items)} requests; allowed: 1 to {MAX_ITEMS}")
        batch = Batch(
            batch_id=PREFIX + secrets.token_hex(16),
            caller=tenant.caller,
            created_at=ctx.registry.now(),
            items=tuple(_submitted(tenant, envelope, *each) for each in _named(items)),
        )
        ctx.registry.batches.add(batch)
        return cls.of(ctx, batch)

    @property
    def pending(self) -> list[str]:
        return [each for each in self.batch.job_ids if not self._has_ended(each)]

    def answer(self) -> dict[str, Any]:
        """The batch with its progress, or with the contract's result."""
        answer = {**self._brief(), **self._times()}
        if not self._ended:
            return {**answer, "output": self._progress()}
        answer["output"] = self._result()
        if answer["output"]["status"] == "error":
            answer["error"] = answer["output"]["items"][0]["result"]["error"]
        return answer

    def cancel(self) -> dict[str, Any]:
        """Ends the jobs that have not ended."""
        for job_id in self.statuses:
            Job(self.ctx, job_id).cancel(by=CANCELLED_BY)
        return Videos.of(self.ctx, self.batch)._brief()

    def retry(self) -> dict[str, Any]:
        raise refuse(409, "id: it is a batch; allowed: the job_id of one of its items")

    def parts(self) -> dict[str, Any]:
        """The results of items, in their order, then that of the batch; each once."""
        ended = [*takewhile(lambda item: self._has_ended(item.job_id), self.batch.items)]
        available = len(ended) + self._ended
        taken = self.ctx.registry.parts.take(self.batch.batch_id, available)
        outputs = [self._item(item) for item in ended] + [self._result()] * self._ended
        parts = [{"output": outputs[number]} for number in taken]
        return {"status": self._brief()["status"], "stream": parts}

    @property
    def _ended(self) -> bool:
        return not self.pending

    def _has_ended(self, job_id: str | None) -> bool:
        status = self.statuses.get(job_id or "")
        return status is None or status.ended

    def _brief(self) -> dict[str, Any]:
        return {"id": self.batch.batch_id, "status": self._state()}

    def _state(self) -> str:
        states = {state_of(status) for status in self.statuses.values()}
        if not self._ended:
            return IN_QUEUE if states == {IN_QUEUE} else STATES["running"]
        if STATES["success"] in states:
            return STATES["success"]
        return states.pop() if len(states) == 1 else STATES["error"]

    def _times(self) -> dict[str, int]:
        """From the submission to the first start, and from there to the last end."""
        statuses = self.statuses.values()
        now = self.ctx.registry.now()
        until = max((each.updated_at for each in statuses), default=now) if self._ended else now
        begun = min((each.started_at for each in statuses if each.started_at), default=until)
        return {
            "delayTime": round(1000 * (begun - self.batch.created_at)),
            "executionTime": round(1000 * (until - begun)),
        }

    def _progress(self) -> dict[str, Any]:
        items = [
            {"id": item.id, "job_id": item.job_id, **self._item_progress(item)}
            for item in self.batch.items
        ]
        return {
            "stage": "batch",
            "pct": round(sum(each["pct"] for each in items) / len(items), 1),
            "job_id": self.batch.batch_id,
            "details": {"items": items},
        }

    def _item_progress(self, item: BatchItem) -> dict[str, Any]:
        status = self.statuses.get(item.job_id or "")
        if status is None or status.ended:
            return {"stage": status.stage if status else "error", "pct": 100}
        return {"stage": status.stage, "pct": status.pct, "warnings": status.warnings}

    def _result(self) -> dict[str, Any]:
        """The contract's result of a batch."""
        items = [self._item(item) for item in self.batch.items]
        good = sum(each["result"]["status"] == "success" for each in items)
        status = "success" if good == len(items) else "partial" if good else "error"
        return {"job_id": self.batch.batch_id, "status": status, "items": items}

    def _item(self, item: BatchItem) -> dict[str, Any]:
        status = self.statuses.get(item.job_id or "")
        if status is not None and status.result is not None:
            result = status.result.model_dump(mode="json", exclude_none=True)
        else:  # never a job, or one that has expired
            error = item.error or Failure.model_validate(
                error_object(unknown_job(item.job_id or ""))
            )
            result = {"job_id": item.job_id, "status": "error", "error": error.model_dump()}
        return {"id": item.id, "result": result}


def _submitted(tenant: Tenant, envelope: Envelope, name: str, fields: Request) -> BatchItem:
    try:
        if isinstance(fields, InvalidInput):
            raise fields
        request = envelope.with_policy({key: fields[key] for key in fields if key != "id"})
        job = tenant.farm.submit(tenant.with_priority(request), limits=envelope.policy.limits)
    except (InvalidInput, QuotaExceeded) as error:
        return BatchItem(id=name, error=_failure(error))
    return BatchItem(id=name, job_id=job.id)


def _failure(error: FarmError) -> Failure:
    return Failure.model_validate(error_object(error))


def _named(items: list[Request]) -> Iterator[tuple[str, Request]]:
    """Each item with its id, or the error in that."""
    taken: set[str] = set()
    for index, item in enumerate(items):
        name = f"item-{index}"
        if isinstance(item, dict):
            given = item["id"]
            if isinstance(given, str) and len(given) <= 200 and given not in taken:
                name = given
            else:
                allowed = "a text of up to 200 characters, unlike other ids"
                item = InvalidInput(f"batch.{index}.id: got {given!r:.80}; allowed: {allowed}")
        taken.add(name)
        yield name, item
