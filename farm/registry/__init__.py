"""The book: where every job stands, which step is whose, and what has been told about it.

All rules stand here once; a ledger (Redis, or this process's memory) only keeps texts and swaps them atomically. A
step's record decides who may work on it:

    rung      a message for it is on its way; nobody rings again before `rung_until`
    leased    somebody works on it; `fence` tells this attempt from every other, `lease_until` when it counts as lost
    current   its `goods` are final; the first attempt that commits under a valid fence wins
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from farm.errors import Cancelled, FarmError, InvalidInput, WorkerLost
from farm.job import STAGES, Event, JobRequest, JobStatus, Result, State

Record = dict[str, Any]

LAST_STAGES = ("completed", "error", "cancelled")
"""A job's last event has one of these stages."""

REMEMBERED = 64
"""Requests that a process keeps in mind; they never change, and each step of a job asks for its own several times."""

LAST_WORD_S = 1.0
"""A job ends before its last event is told; if none comes for so long, whoever ended it died in between."""


SENDING_S = 15.0
"""Between the right to send a message and the word that it was sent; whoever needs longer is thought to have died."""


class Ledger(Protocol):
    """Texts changed by compare-and-set, append-only streams, indices sorted by a number, and one clock for all."""

    def get(self, key: str) -> str | None: ...
    def get_all(self, keys: Sequence[str]) -> list[str | None]: ...
    def swap(self, key: str, old: str | None, new: str) -> bool: ...
    def delete(self, key: str) -> None: ...
    def append(self, key: str, text: str) -> None: ...
    def read_after(self, key: str, position: str, wait_s: float) -> list[tuple[str, str]]: ...
    def index(self, name: str, member: str, score: float) -> None: ...
    def unindex(self, name: str, member: str) -> None: ...
    def newest(self, name: str, limit: int) -> list[str]: ...
    def now(self) -> float: ...


@dataclass(frozen=True)
class Lease:
    """The right to make one product, until `lease_until` on the ledger's clock or a higher fence."""

    job_id: str
    product: str
    fence: int
    attempts: int


class Registry:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._request = lru_cache(REMEMBERED)(self._read_request)

    # Jobs

    def claim(self, idempotency_key: str, job_id: str) -> str:
        """The job that this key belongs to: `job_id` if the key is new."""
        key = f"idempotency:{idempotency_key}"
        return job_id if self.ledger.swap(key, None, job_id) else str(self.ledger.get(key))

    def add(self, job_id: str, request: JobRequest) -> bool:
        """Enters a job; False when it was there before."""
        return self.restore(queued(job_id, self.ledger.now()), request)

    def restore(self, status: JobStatus, request: JobRequest, *, at: str | None = None) -> bool:
        """Enters a job where it stands, with the product that was made last; False when it was there before."""
        job_id = status.job_id
        self.ledger.swap(f"request:{job_id}", None, request.model_dump_json())
        record = {**status.model_dump(mode="json", exclude={"job_id"}), "at": at}
        added = self.ledger.swap(f"job:{job_id}", None, _text(record))
        if added and status.ended:
            self._tell_end(job_id, record)
        self.relist(job_id)
        return added

    def relist(self, job_id: str) -> None:
        """Lists a job that is known; whoever entered it may have died before that."""
        status = self.job(job_id)
        self.ledger.index("jobs", job_id, status.created_at)
        if not status.ended:
            self.ledger.index("live", job_id, status.created_at)

    def knows(self, job_id: str) -> bool:
        """Whether there is such a job."""
        return bool(self._read(f"job:{job_id}"))

    def request(self, job_id: str) -> JobRequest:
        """What a job asks for; InvalidInput if there is no such job."""
        return self._request(job_id)

    def _read_request(self, job_id: str) -> JobRequest:
        text = self.ledger.get(f"request:{job_id}")
        if text is None:
            raise _unknown(job_id)
        return JobRequest.model_validate_json(text)

    def job(self, job_id: str) -> JobStatus:
        """Where a job stands; InvalidInput if there is no such job."""
        record = self._read(f"job:{job_id}")
        if not record:
            raise _unknown(job_id)
        result = record["result"] and Result.model_validate_json(json.dumps(record["result"]))
        fields = {name: record[name] for name in ("state", "stage", "pct", "details", "created_at", "updated_at")}
        return JobStatus(job_id=job_id, **fields, result=result)

    def jobs(self, limit: int) -> list[JobStatus]:
        """The newest jobs first."""
        return [self.job(job_id) for job_id in self.ledger.newest("jobs", limit)]

    def live(self) -> list[str]:
        """Ids of all jobs that have not ended, and of those that have not been closed."""
        return self.ledger.newest("live", -1)

    def close(self, job_id: str) -> None:
        """Takes a job off the list of the live ones, once its end has been told to all who must know."""
        self.ledger.unindex("live", job_id)

    def report(self, event: Event) -> None:
        """Tells a step forward; raises Cancelled when the job has ended or is known no more."""
        now = self.ledger.now()

        def move(record: Record) -> Record | None:
            if not record or record.get("result"):
                return None
            pct = max(record["pct"], event.pct)
            told = {"stage": event.stage, "pct": pct, "details": event.details}
            return {**record, "state": "running", **told, "updated_at": now}

        record = self._change(f"job:{event.job_id}", move)
        if record is None:
            raise Cancelled(f"job {event.job_id} has ended, or the broker has lost it; {event.stage} stops here")
        self._tell(event.model_copy(update={"pct": record["pct"]}))

    def events(self, job_id: str, *, wait_s: float = 1.0) -> Iterator[Event]:
        """Every event of a job from its first to its end, waiting for those to come."""
        position = "0"
        while True:
            ended = self.job(job_id).ended
            news = self.ledger.read_after(f"events:{job_id}", position, LAST_WORD_S if ended else wait_s)
            for place, text in news:
                position = place
                event = Event.model_validate_json(text)
                yield event
                if event.stage in LAST_STAGES:
                    return
            if ended and not news:
                return

    def end(self, job_id: str, state: State, result: Result) -> bool:
        """Ends a job; the first end stands, and False says that it was another. It stays live until it is closed."""
        now = self.ledger.now()

        def close(record: Record) -> Record | None:
            if not record or record.get("result"):
                return None
            last = {"stage": "completed", "pct": STAGES["completed"]} if state == "success" else {"stage": state}
            details = {} if result.error is None else {"code": result.error.code, "message": result.error.message}
            outcome = {"details": details, "updated_at": now, "result": result.model_dump(mode="json")}
            return {**record, "state": state, **last, **outcome}

        record = self._change(f"job:{job_id}", close)
        if record is not None:
            self._tell_end(job_id, record)
        return record is not None

    def fail(self, job_id: str, error: FarmError, *, at_stage: str) -> bool:
        """Ends a job with an error, or as cancelled."""
        state: State = "cancelled" if isinstance(error, Cancelled) else "error"
        failure = {"job_id": job_id, "status": "error", "error": error.describe(at_stage=at_stage)}
        return self.end(job_id, state, Result.model_validate_json(json.dumps(failure)))

    def cancel(self, job_id: str, *, by: str) -> bool:
        """Ends a job that has not ended; the step in hand notices at its next report."""
        status = self.job(job_id)
        return self.fail(job_id, Cancelled(f"cancelled by {by} at {status.stage}"), at_stage=status.stage)

    def forget(self, job_id: str, products: Iterable[str]) -> None:
        """Removes every record of a job that has ended, the job itself last; who is interrupted may begin again."""
        request = self.ledger.get(f"request:{job_id}")
        key = request and f"idempotency:{JobRequest.model_validate_json(request).idempotency_key}"
        if key and self.ledger.get(key) == job_id:
            self.ledger.delete(key)
        for index in ("live", "jobs"):
            self.ledger.unindex(index, job_id)
        for name in (*(_key(job_id, product) for product in products), *_records(job_id)):
            self.ledger.delete(name)

    # Steps

    def ring(self, job_id: str, product: str, *, window_s: float) -> bool:
        """Whether the caller may send the message for a product now; True to one caller alone.

        Who does not say `sent` within the window is taken for dead, and the next one may send it.
        """
        now = self.ledger.now()

        def rung(record: Record) -> Record | None:
            if "goods" in record or max(record.get("lease_until", 0), record.get("rung_until", 0)) > now:
                return None
            return {**record, "rings": record.get("rings", 0) + 1, "rung_at": now, "rung_until": now + window_s}

        return self._change(_key(job_id, product), rung) is not None

    def sent(self, job_id: str, product: str, *, window_s: float) -> None:
        """Notes that the message which was rung for is on its way: nobody rings again within the window.

        Not if it has arrived already: whoever took it has the say.
        """
        now = self.ledger.now()

        def waiting(record: Record) -> Record | None:
            arrived = record.get("taken_at", 0) >= record.get("rung_at", 0)
            return None if arrived or "goods" in record else {**record, "rung_until": now + window_s}

        self._change(_key(job_id, product), waiting)

    def rings(self, job_id: str, product: str) -> int:
        """How often the message for a product was sent."""
        return int(self._read(_key(job_id, product)).get("rings", 0))

    def take(self, job_id: str, product: str, *, lease_s: float, max_attempts: int) -> Lease | None:
        """The lease on a product, or None while another holds it; WorkerLost when every attempt was lost."""
        now = self.ledger.now()

        def leased(record: Record) -> Record | None:
            if "goods" in record or record.get("lease_until", 0) > now:
                return None
            attempts = record.get("attempts", 0)
            if attempts >= max_attempts:
                raise WorkerLost(f"{product}: {attempts} workers died on it one after the other; it is not tried again")
            fence = {"fence": record.get("fence", 0) + 1, "attempts": attempts + 1}
            return {**record, **fence, "taken_at": now, "lease_until": now + lease_s, "rung_until": 0}

        record = self._change(_key(job_id, product), leased)
        if record is None:
            return None
        self._change(f"job:{job_id}", lambda job: {**job, "at": product} if job else None)
        return Lease(job_id, product, record["fence"], record["attempts"])

    def unring(self, job_id: str, product: str) -> None:
        """Lets the next one ring who comes: the message for a product could not be sent."""
        self._change(_key(job_id, product), lambda record: {**record, "rung_until": 0})

    def renew(self, lease: Lease, *, lease_s: float) -> bool:
        """Holds a lease for longer; False when somebody else has the fence."""
        return self._if_mine(lease, {"lease_until": self.ledger.now() + lease_s})

    def give_back(self, lease: Lease, *, after_s: float, counted: bool = True) -> bool:
        """Ends an attempt without a product; nobody rings for another before `after_s` seconds are over.

        One that is not counted was broken off through no fault of the step.
        """
        attempts = lease.attempts if counted else lease.attempts - 1
        change = {"attempts": attempts, "lease_until": 0, "rung_until": self.ledger.now() + after_s}
        return self._if_mine(lease, change)

    def commit(self, lease: Lease, goods: Record) -> bool:
        """Makes an attempt's goods the product; False when its fence is no longer the highest."""
        return self._if_mine(lease, {"goods": goods, "lease_until": 0, "made_at": self.ledger.now()})

    def remember(self, job_id: str, product: str, *, fence: int, goods: Record | None = None) -> None:
        """Enters what is known of a lost product: its goods, or a fence that no attempt has had; never over goods."""

        def remembered(record: Record) -> Record | None:
            return None if "goods" in record else {"fence": fence, **({"goods": goods} if goods else {})}

        self._change(_key(job_id, product), remembered)

    def product(self, job_id: str, product: str) -> Record | None:
        """The goods of a product that is current."""
        return self.products(job_id, [product])[0]

    def products(self, job_id: str, products: Sequence[str]) -> list[Record | None]:
        """The goods of each product, None for one that is not current, in one look however many they are."""
        texts = self.ledger.get_all([_key(job_id, product) for product in products])
        return [json.loads(text).get("goods") if text else None for text in texts]

    def overtaken(self, job_id: str, product: str, attempt: int) -> bool:
        """Whether an attempt is not current and cannot become it any more."""
        record = self._read(_key(job_id, product))
        fence = record.get("fence", 0)
        return bool(attempt != fence if "goods" in record else attempt < fence)

    def waited_s(self, job_id: str, product: str) -> float:
        """Seconds between the last message for a product and its lease."""
        record = self._read(_key(job_id, product))
        return float(max(0, record.get("taken_at", 0) - record.get("rung_at", record.get("taken_at", 0))))

    def at(self, job_id: str) -> str | None:
        """The product that was taken last."""
        return self._read(f"job:{job_id}").get("at")

    def _if_mine(self, lease: Lease, change: Record) -> bool:
        def changed(record: Record) -> Record | None:
            mine = record.get("fence") == lease.fence and "goods" not in record
            return {**record, **change} if mine else None

        return self._change(_key(lease.job_id, lease.product), changed) is not None

    def _tell_end(self, job_id: str, record: Record) -> None:
        self._tell(Event(job_id=job_id, stage=record["stage"], pct=record["pct"], details=record["details"]))

    def _tell(self, event: Event) -> None:
        self.ledger.append(f"events:{event.job_id}", event.model_dump_json())

    def _read(self, key: str) -> Record:
        text = self.ledger.get(key)
        return json.loads(text) if text else {}

    def _change(self, key: str, change: Callable[[Record], Record | None]) -> Record | None:
        """Applies `change` to a record until nobody came between; None when `change` refuses."""
        while True:
            old = self.ledger.get(key)
            new = change(json.loads(old) if old else {})
            if new is None or self.ledger.swap(key, old, _text(new)):
                return new


def open_registry(url: str) -> Registry:
    """The registry at a `redis://` or `rediss://` URL, or `memory://` for this process alone."""
    if url == "memory://":
        from farm.registry.memory import MemoryLedger

        return Registry(MemoryLedger())
    if url.startswith(("redis://", "rediss://")):
        from farm.registry.redis import RedisLedger

        try:
            return Registry(RedisLedger(url))
        except ValueError as error:
            raise InvalidInput(f"FARM_BROKER_URL: {error}; allowed: redis://:password@host:port/number") from error
    raise InvalidInput(
        f"FARM_BROKER_URL: got a URL of another kind; allowed: redis://, rediss:// or memory:// ({url[:9]}...)"
    )


def queued(job_id: str, entered_at: float) -> JobStatus:
    """Where a job stands that nobody has begun."""
    return JobStatus(
        job_id=job_id,
        state="queued",
        stage="queued",
        pct=0,
        details={},
        created_at=entered_at,
        updated_at=entered_at,
    )


def _records(job_id: str) -> tuple[str, ...]:
    return f"events:{job_id}", f"request:{job_id}", f"job:{job_id}"


def _key(job_id: str, product: str) -> str:
    return f"product:{job_id}:{product}"


def _text(record: Record) -> str:
    return json.dumps(record, separators=(",", ":"))


def _unknown(job_id: str) -> InvalidInput:
    return InvalidInput(f"job_id: got {job_id!r}; there is no such job (`farm jobs` lists them)")
