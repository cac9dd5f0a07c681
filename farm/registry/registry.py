"""The book: where every job stands, which step is whose, and what has been told about it.

All rules stand here once; a ledger (Redis, or this process's memory) only keeps texts and swaps them, in one act with
all that goes with it. A step's record decides who may work on it:

    rung      a message for it is on its way, `waiting` until it is taken; nobody rings again before `rung_until`
    leased    somebody works on it; `fence` tells this attempt from every other, `lease_until` when it counts as lost
    current   its `goods` are final; the first attempt that commits under a valid fence wins
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from math import inf
from typing import Any, Protocol

from farm.errors import Cancelled, FarmError, InvalidInput, WorkerLost
from farm.job import STAGES, Event, JobRequest, JobStatus, Result, State

Record = dict[str, Any]
Rule = Callable[[Record], Record | None]
"""What becomes of a record ({} if there is none); None leaves it as it is."""

LAST_STAGES = ("completed", "error", "cancelled")
"""A job's last event has one of these stages."""

REMEMBERED = 64
"""Texts, and requests, that a process keeps in mind."""

PAGE = 100
"""Jobs that are listed in one look."""


@dataclass(frozen=True)
class Also:
    """What comes to be at the moment of a swap: texts, events behind those of their stream, members of indices, new
    scores of members that an index has, members that are counted once more, and members that are `gone`.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    scores: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    counted: Mapping[str, str] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)


ALONE = Also()


class Ledger(Protocol):
    """Texts changed by compare-and-set, append-only streams, indices sorted by a number, and one clock for all."""

    def get_all(self, keys: Sequence[str]) -> list[str | None]: ...
    def swap(self, key: str, old: str | None, new: str, also: Also = ALONE) -> str | None:
        """The text as it was found; if that is `old`, `new` stands there now, and all that goes with it."""

    def delete(self, key: str) -> None: ...
    def read_after(self, key: str, position: str, wait_s: float) -> list[tuple[str, str]]: ...
    def index(self, name: str, member: str, score: float) -> None: ...
    def unindex(self, name: str, member: str) -> None: ...
    def highest(self, name: str, start: int, limit: int) -> list[str]: ...
    def up_to(self, name: str, score: float) -> list[str]: ...
    def between(self, name: str, low: float, high: float, limit: int) -> list[tuple[str, float]]:
        """Members whose score is above `low` and not above `high`, with it, the lowest first."""

    def size(self, name: str, high: float = inf) -> int:
        """How many members have a score that is not above `high`."""

    def now(self) -> float: ...


@dataclass(frozen=True)
class Lease:
    """The right to make one product, until `lease_until` on the ledger's clock or a higher fence."""

    job_id: str
    step_id: str
    fence: int
    attempts: int
    took_over: bool = False
    """Whether the attempt before fell silent."""


@dataclass(frozen=True)
class Outlook:
    """What a product tells of its job: the seconds of an H100 that its chunks still take as forecast, and how many
    times the forecast this one took; None where it does not tell.
    """

    ahead_s: float | None = None
    pace: float | None = None


UNTOLD = Outlook()

UNHEARD = -1.0
"""What is ahead of a job whose sound nobody has heard yet."""


class Registry:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._seen: dict[str, str | None] = {}
        self._request = lru_cache(REMEMBERED)(self._read_request)

    # Jobs

    def claim(self, idempotency_key: str, job_id: str) -> str:
        """The job that this key belongs to: `job_id` if the key is new."""
        return self.ledger.swap(f"idempotency:{idempotency_key}", None, job_id) or job_id

    def add(self, job_id: str, request: JobRequest) -> bool:
        """Enters a job; False when it was there before."""
        return self.restore(queued(job_id, self.ledger.now()), request)

    def restore(self, status: JobStatus, request: JobRequest, *, at: str | None = None, untold: bool = False) -> bool:
        """Enters a job where it stands, with the product that was made last; False when it was there before.

        One that has ended is live only if its end is still to be told.
        """
        job_id = status.job_id
        also = Also(
            texts={f"request:{job_id}": request.model_dump_json(), **({f"at:{job_id}": at} if at else {})},
            events=_told(status.model_dump()) if status.ended else {},
            members={
                "jobs": (job_id, status.created_at),
                **({"live": (job_id, 0)} if untold or not status.ended else {}),
                **({} if status.ended else {"ahead": (job_id, UNHEARD)}),
            },
        )
        return self.ledger.swap(f"job:{job_id}", None, status.model_dump_json(), also) is None

    def knows(self, job_id: str) -> bool:
        """Whether there is such a job."""
        return self._read(f"job:{job_id}") != [None]

    def request(self, job_id: str) -> JobRequest:
        """What a job asks for; InvalidInput if there is no such job."""
        return self._request(job_id)

    def _read_request(self, job_id: str) -> JobRequest:
        key = f"request:{job_id}"
        text = self._seen.get(key) or self._read(key)[0]
        if text is None:
            raise _unknown(job_id)
        return JobRequest.model_validate_json(text)

    def job(self, job_id: str) -> JobStatus:
        """Where a job stands; InvalidInput if there is no such job."""
        return _status(job_id, *self._read(f"job:{job_id}"))

    def look(self, job_id: str, step_ids: Sequence[str]) -> tuple[JobStatus, list[Record | None]]:
        """Where a job stands, and the goods of each product, at one moment; InvalidInput if there is no such job."""
        # What it asks for is wanted next; to read it along costs less than to ask.
        job, _, *made = self._read(f"job:{job_id}", f"request:{job_id}", *(_key(job_id, name) for name in step_ids))
        return _status(job_id, job), [_record(text).get("goods") for text in made]

    def jobs(self) -> Iterator[JobStatus]:
        """All jobs, the newest first, asked for as they are wanted: `PAGE` of them at a time."""
        for start in count(0, PAGE):
            job_ids = self.ledger.highest("jobs", start, PAGE)
            texts = self.ledger.get_all([f"job:{job_id}" for job_id in job_ids]) if job_ids else []
            yield from (_status(job_id, text) for job_id, text in zip(job_ids, texts, strict=True) if text)
            if len(job_ids) < PAGE:
                return

    def live(self) -> list[str]:
        """Ids of all jobs that have not ended, and of those that have not been closed."""
        return self.ledger.up_to("live", inf)

    def idle(self) -> list[str]:
        """Ids of those live jobs that nobody works on, and no message is on its way for."""
        return self.ledger.up_to("live", self.ledger.now())

    def close(self, job_id: str) -> None:
        """Takes a job off the list of the live ones, once its end has been told to all who must know."""
        self.ledger.unindex("live", job_id)

    def report(self, event: Event) -> None:
        """Tells a step forward; raises Cancelled when the job has ended or is known no more."""

        def moved(record: Record) -> Record:
            pct = max(record["pct"], event.pct)
            return {"state": "running", "stage": event.stage, "pct": pct, "details": event.details}

        if not self._move(event.job_id, moved):
            raise Cancelled(f"job {event.job_id} has ended, or the broker has lost it; {event.stage} stops here")

    def events(self, job_id: str, *, wait_s: float = 1.0) -> Iterator[Event]:
        """Every event of a job from its first to its end, waiting for those to come."""
        position = "0"
        while True:
            ended = self.job(job_id).ended
            news = self.ledger.read_after(f"events:{job_id}", position, 0 if ended else wait_s)
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

        def closed(_: Record) -> Record:
            last = {"stage": "completed", "pct": STAGES["completed"]} if state == "success" else {"stage": state}
            details = {} if result.error is None else {"code": result.error.code, "message": result.error.message}
            return {"state": state, **last, "details": details, "result": result.model_dump(mode="json")}

        return self._move(job_id, closed)

    def fail(self, job_id: str, error: FarmError, *, at_stage: str) -> bool:
        """Ends a job with an error, or as cancelled."""
        state: State = "cancelled" if isinstance(error, Cancelled) else "error"
        failure = {"job_id": job_id, "status": "error", "error": error.describe(at_stage=at_stage)}
        return self.end(job_id, state, Result.model_validate_json(json.dumps(failure)))

    def cancel(self, job_id: str, *, by: str) -> bool:
        """Ends a job that has not ended; the step in hand notices at its next report."""
        status = self.job(job_id)
        return self.fail(job_id, Cancelled(f"cancelled by {by} at {status.stage}"), at_stage=status.stage)

    def forget(self, job_id: str, step_ids: Iterable[str]) -> None:
        """Removes every record of a job that has ended, the job itself last; who is interrupted may begin again."""
        (request,) = self._read(f"request:{job_id}")
        key = request and f"idempotency:{JobRequest.model_validate_json(request).idempotency_key}"
        if key and self._read(key) == [job_id]:
            self.ledger.delete(key)
        for index in ("live", "ahead", "jobs"):
            self.ledger.unindex(index, job_id)
        for name in (*(_key(job_id, step_id) for step_id in step_ids), *_records(job_id)):
            self.ledger.delete(name)
        self._seen.clear()

    # Steps

    def ring(self, job_id: str, step_id: str, *, window_s: float) -> bool:
        """Whether the caller may send the message for a product now; True to one caller alone.

        Nobody else may within the window, unless the product is taken before, or the message is `lost`.
        """
        now = self.ledger.now()

        def rung(record: Record) -> Record | None:
            if "goods" in record or _cared_for_until(record) > now:
                return None
            return {**record, "rings": record.get("rings", 0) + 1, "rung_at": now, "rung_until": now + window_s}

        return self._change_product(job_id, step_id, rung, _waited_for(job_id, step_id, now)) is not None

    def waiting(self, *, for_s: float) -> list[tuple[str, str]]:
        """The job and the product of messages that were rung for so long ago, and have led to no lease yet."""
        names = self.ledger.up_to("waiting", self.ledger.now() - for_s)
        return [(job_id, step_id) for job_id, _, step_id in (name.partition(" ") for name in names)]

    def lost(self, job_id: str, step_id: str) -> None:
        """Notes that a message is nowhere: anybody may ring, unless it has led to a lease meanwhile."""

        def gone(record: Record) -> Record | None:
            return {**record, "rung_until": 0} if _on_its_way(record) else None

        self._change_product(job_id, step_id, gone)
        self.ledger.unindex("waiting", _named(job_id, step_id))

    def rings(self, job_id: str, step_ids: Sequence[str]) -> list[int]:
        """How often the message for each product was sent."""
        return [_record(text).get("rings", 0) for text in self._read(*(_key(job_id, name) for name in step_ids))]

    def take(self, job_id: str, step_id: str, *, lease_s: float, max_attempts: int) -> Lease | None:
        """The lease on a product, or None while another holds it; WorkerLost when every attempt was lost."""
        now = self.ledger.now()

        def leased(record: Record) -> Record | None:
            if "goods" in record or record.get("lease_until", 0) > now:
                return None
            fence = {"fence": record.get("fence", 0) + 1, "attempts": record.get("attempts", 0) + 1}
            fence["took_over"] = record.get("lease_until", 0) > 0  # whoever gives it back leaves 0
            met = {"met": record.get("rings", 0)}
            return {**record, **fence, **met, "taken_at": now, "lease_until": now + lease_s, "rung_until": 0}

        also = Also({f"at:{job_id}": step_id}, gone={"waiting": _named(job_id, step_id)})
        record = self._change_product(job_id, step_id, leased, also)
        if record is None:
            return None
        if record["attempts"] > max_attempts:
            raise WorkerLost(f"{step_id}: {max_attempts} workers died on it one after the other; it is not tried again")
        return Lease(job_id, step_id, record["fence"], record["attempts"], record["took_over"])

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

    def hand_back(self, lease: Lease, *, window_s: float) -> bool:
        """Ends an attempt uncounted, whose message goes back into its queue: it is waited for as when it was sent."""
        now = self.ledger.now()
        change = {"attempts": lease.attempts - 1, "lease_until": 0, "met": -1, "rung_until": now + window_s}
        return self._if_mine(lease, change, _waited_for(lease.job_id, lease.step_id, now))

    def commit(self, lease: Lease, output: Record, outlook: Outlook = UNTOLD) -> bool:
        """Makes an attempt's goods the product; False when its fence is no longer the highest."""
        told = Also(
            texts={} if outlook.pace is None else {"pace": f"{outlook.pace:.4g}"},
            scores={} if outlook.ahead_s is None else {"ahead": (lease.job_id, outlook.ahead_s)},
        )
        return self._if_mine(lease, {"goods": output, "lease_until": 0, "made_at": self.ledger.now()}, told)

    def restore_output(self, job_id: str, step_id: str, *, fence: int, output: Record | None = None) -> None:
        """Enters what is known of a lost product: its goods, or a fence that no attempt has had; never over goods."""

        def remembered(record: Record) -> Record | None:
            return None if "goods" in record else {"fence": fence, **({"goods": output} if output else {})}

        self._change_product(job_id, step_id, remembered)

    def output(self, job_id: str, step_id: str) -> Record | None:
        """The goods of a product that is current."""
        return self._product(job_id, step_id).get("goods")

    def overtaken(self, job_id: str, step_id: str, attempt: int) -> bool:
        """Whether an attempt is not current and cannot become it any more."""
        record = self._product(job_id, step_id)
        fence = record.get("fence", 0)
        return bool(attempt != fence if "goods" in record else attempt < fence)

    def rung_at(self, step_ids: Sequence[tuple[str, str]]) -> list[float | None]:
        """When the message for each product of a job was sent last, on the ledger's clock; None if nobody knows."""
        return [record.get("rung_at") for record in self._products(step_ids)]

    def leased(self, step_ids: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether somebody works on each product of a job."""
        now = self.ledger.now()
        return [record.get("lease_until", 0) > now for record in self._products(step_ids)]

    def waited_s(self, job_id: str, step_id: str) -> float:
        """Seconds between the last message for a product and its lease."""
        record = self._product(job_id, step_id)
        return float(max(0, record.get("taken_at", 0) - record.get("rung_at", record.get("taken_at", 0))))

    def attempts(self, job_id: str, step_id: str) -> int:
        """How many attempts at a product were begun and not broken off."""
        return int(self._product(job_id, step_id).get("attempts", 0))

    def at(self, job_id: str) -> str | None:
        """The product that was taken last."""
        return self._read(f"at:{job_id}")[0]

    # Workers

    def present(self, worker: str) -> None:
        """Notes that a worker is there now; its name begins with its queue and a space."""
        self.ledger.index("workers", worker, self.ledger.now())

    def forget_workers(self, *, silent_s: float) -> None:
        """Drops the names of workers that have said nothing for so long: those that were killed."""
        for worker in self.ledger.up_to("workers", self.ledger.now() - silent_s):
            self.absent(worker)

    def absent(self, worker: str) -> None:
        """Notes that a worker has gone."""
        self.ledger.unindex("workers", worker)

    def _if_mine(self, lease: Lease, change: Record, also: Also = ALONE) -> bool:
        def changed(record: Record) -> Record | None:
            mine = record.get("fence") == lease.fence and "goods" not in record
            return {**record, **change} if mine else None

        return self._change_product(lease.job_id, lease.step_id, changed, also) is not None

    def _products(self, step_ids: Sequence[tuple[str, str]]) -> list[Record]:
        keys = [_key(job_id, step_id) for job_id, step_id in step_ids]
        return [_record(text) for text in (self.ledger.get_all(keys) if keys else [])]

    def _product(self, job_id: str, step_id: str) -> Record:
        return _record(*self._read(_key(job_id, step_id)))

    def _change_product(self, job_id: str, step_id: str, rule: Rule, also: Also = ALONE) -> Record | None:
        """Changes a product's record, until when nobody need look after its job, and all that goes with it."""

        def scored(record: Record) -> Also:
            return replace(also, scores={"live": (job_id, _cared_for_until(record)), **also.scores})

        return self._change(_key(job_id, step_id), rule, scored)

    def _move(self, job_id: str, moved: Callable[[Record], Record]) -> bool:
        """Changes a job that has not ended, and tells it; False if it has, or if there is no such job."""
        now = self.ledger.now()

        def rule(job: Record) -> Record | None:
            return None if not job or job.get("result") else {**job, **moved(job), "updated_at": now}

        def told(job: Record) -> Also:
            if not job["result"]:
                return Also(events=_told(job))
            return Also(
                events=_told(job),
                scores={"live": (job_id, 0)},
                counted={"ended": f"{job['state']} {job['details'].get('code', '')}".strip()},
                gone={"ahead": job_id},
            )

        return self._change(f"job:{job_id}", rule, told) is not None

    def _change(self, key: str, rule: Rule, also: Callable[[Record], Also] = lambda _: ALONE) -> Record | None:
        """What a rule has made of a record, with what goes with it; None when the rule refuses.

        It begins with the record as it was seen last: a swap that fails costs no more than a look, and is one. Only
        what is there now may be refused.
        """
        old, certain = self._seen.get(key), False
        while True:
            new = rule(_record(old))
            if new is not None:
                text = _text(new)
                found = self.ledger.swap(key, old, text, also(new))
                if found == old:
                    self._remember({key: text})
                    return new
            elif certain:
                return None
            else:
                (found,) = self._read(key)
            old, certain = found, True

    def _read(self, *keys: str) -> list[str | None]:
        texts = self.ledger.get_all(keys)
        self._remember(dict(zip(keys, texts, strict=True)))
        return texts

    def _remember(self, texts: Mapping[str, str | None]) -> None:
        """Keeps texts for `_change`, not for long: forgetting all of them costs a look each, if they are needed."""
        if len(self._seen) > REMEMBERED:
            self._seen.clear()
        self._seen.update(texts)


def open_registry(url: str) -> Registry:
    """The registry at a `redis://` or `rediss://` URL, or `memory://` for this process alone."""
    if url == "memory://":
        from farm.registry.memory import MemoryLedger

        return Registry(MemoryLedger())
    if url.startswith(("redis://", "rediss://")):
        from farm.registry.redis import RedisLedger

        try:
            return Registry(RedisLedger(url))
        except ValueError:  # its words may hold a part of the password
            raise InvalidInput(
                "FARM_BROKER_URL: it is no URL that Redis knows; allowed: redis://:password@host:port/number"
            ) from None
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
    return tuple(f"{kind}:{job_id}" for kind in ("events", "request", "at", "job"))


def _key(job_id: str, step_id: str) -> str:
    return f"product:{job_id}:{step_id}"


def _record(text: str | None) -> Record:
    return json.loads(text) if text else {}


def _text(record: Record) -> str:
    return json.dumps(record, separators=(",", ":"))


def _status(job_id: str, text: str | None) -> JobStatus:
    if text is None:
        raise _unknown(job_id)
    return JobStatus.model_validate_json(text)


def _on_its_way(record: Record) -> bool:
    """Whether a message was rung for, and nobody has had the lease since.

    No clock is asked: those of two processes part by as long as a busy machine lets one of them wait for an answer.
    """
    return "goods" not in record and record.get("met", 0) < record.get("rings", 0)


def _waited_for(job_id: str, step_id: str, now: float) -> Also:
    """That the message for a product is on its way from now on."""
    return Also(members={"waiting": (_named(job_id, step_id), now)})


def _named(job_id: str, step_id: str) -> str:
    """A job's product as a member of an index; neither has a space."""
    return f"{job_id} {step_id}"


def _cared_for_until(record: Record) -> float:
    """When a step is nobody's any more. One that is made is not: then the next one is to be sent."""
    return float(max(record.get("lease_until", 0), record.get("rung_until", 0)))


def _told(job: Record) -> dict[str, str]:
    """What is told of a job: where it stands now."""
    return {f"events:{job['job_id']}": _text({name: job[name] for name in Event.model_fields})}


def _unknown(job_id: str) -> InvalidInput:
    return InvalidInput(f"job_id: got {job_id!r}; there is no such job (`farm jobs` lists them)")
