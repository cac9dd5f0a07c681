"""A bridge follows one remote job, whose endpoint, worker and end the test plays."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from farm.engine.attempt import Attempt, Hooks
from farm.engine.context import Context
from farm.errors import FarmError
from farm.registry import Registry
from farm.registry.formats import dump
from farm.registry.outputs import Committed
from farm.registry.remote import RemoteJob as NotedJob
from farm.route import DOWNLOAD, EMBED, Step
from farm.runpod import bridge
from farm.runpod.bridge import GRACE_S, Bridge, open_bridge
from farm.runpod.chunk import ANSWERED, MAX_LOST
from farm.runpod.order import LOST_WORKERS, Order, parse_order
from farm.settings import Settings
from farm.store import integrity, keys
from tests.support.attempts import FIRST
from tests.support.backends import ClockBackend
from tests.support.jobs import job_request
from tests.support.outputs import chunk_output, committed, download_output, embed_output
from tests.support.runpod import FakeRunpod, Fault, RemoteJob, fake_runpod
from tests.support.steps import acquire, adopt
from tests.support.swift import Swift
from tests.support.waiting import wait_for

ENDPOINT = "mine"
CHUNK = Step("generate", 0)


@dataclass
class World:
    """The job `a`, whose first chunk is due, a bridge, and the endpoint of a fake Runpod."""

    ctx: Context
    bridge: Bridge
    runpod: FakeRunpod
    clock: ClockBackend
    is_draining: threading.Event = field(default_factory=threading.Event)
    refusals: list[str] = field(default_factory=list)

    @property
    def registry(self) -> Registry:
        return self.ctx.registry

    def run(self) -> None:
        """Runs the chunk's attempt to its end; if the job fails, its status says so."""
        bridge = replace(self.bridge, refused=lambda reason, gpu_s: self.refusals.append(reason))
        hooks = Hooks(lambda kind: bridge.generate, draining=self.is_draining.is_set, adopts=True)
        with suppress(FarmError):
            Attempt(self.ctx, "a", CHUNK, hooks).run()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The attempt in a thread, until it has ended."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def submitted(self, endpoint: str = ENDPOINT) -> RemoteJob:
        """The newest job of an endpoint, once the bridge has noted it."""
        wait_for(self.registry.remote.attempts)
        return self.runpod.jobs(endpoint)[-1]

    def report(self, remote: RemoteJob, progress: Any) -> None:
        """Reports progress as a worker does."""
        endpoint = self.runpod.endpoint(ENDPOINT)
        if remote.status == "IN_QUEUE":
            self.runpod.call(endpoint.take("pod", 1))
        update = {"status": "IN_PROGRESS", "output": progress}
        self.runpod.call(endpoint.post(remote.id, "pod", update))

    def finish(self, remote: RemoteJob, result: dict[str, Any]) -> None:
        """Ends a remote job as a worker does."""
        endpoint = self.runpod.endpoint(ENDPOINT)
        if remote.status == "IN_QUEUE":
            self.runpod.call(endpoint.take("pod", 1))
        self.runpod.call(endpoint.post(remote.id, "pod", result))

    def answer(self, remote: RemoteJob, *, gpu_ms: int = 700) -> None:
        """Writes the answer to an order."""
        order = parse_order(remote.body["input"])
        segment = order.key("segment.m4s")
        init = order.key("init.mp4")
        output = chunk_output(segment_key=segment, init_key=init)
        made: Committed = committed(
            output,
            attempt_id=order.attempt_id,
            timings={"remote_ms": gpu_ms},
            digests={segment: "1" * 64, init: "2" * 64},
        )
        key = order.key("answer.json")
        integrity.put_sealed(self.ctx.store, key, dump(made).encode())

    def output(self) -> Committed | None:
        return self.registry.steps.committed("a", CHUNK.id)

    def charged_s(self) -> float:
        """GPU seconds that the caller has used."""
        return self.registry.accounts.used_gpu_s("local")


@pytest.fixture
def runpod() -> Iterator[FakeRunpod]:
    with fake_runpod() as fake:
        fake.endpoint(ENDPOINT)
        yield fake


@pytest.fixture
def world(swift: Swift, runpod: FakeRunpod, tmp_path: Path) -> World:
    settings: Settings = swift.settings().model_copy(
        update={
            "home": tmp_path,
            "runpod_url": runpod.url,
            "runpod_api_key": runpod.key,
            "runpod_endpoint_id": ENDPOINT,
            "bridge_gpu_s_per_hour": 1000,
        }
    )
    clock = ClockBackend()
    bridge = open_bridge(settings)
    ctx = Context(settings, bridge.store, Registry(clock))
    ctx.registry.entries.add("a", job_request())
    image = keys.attempt("a", DOWNLOAD.id, FIRST, "image.png")
    track = keys.attempt("a", EMBED.id, FIRST, "track-0000.aac")
    downloaded = committed(download_output(visual_key=image), digests={image: "0" * 64})
    embedded = committed(embed_output(aac_keys=(track,)), digests={track: "0" * 64})
    for step, output in ((DOWNLOAD, downloaded), (EMBED, embedded)):
        ctx.registry.steps.restore("a", step.id, attempt_id=FIRST, committed=output)
    return World(ctx, bridge, runpod, clock)


def test_the_answer_in_the_store_is_committed_with_what_it_cost(world):
    with world.running():
        remote = world.submitted()
        world.answer(remote, gpu_ms=700)
        world.finish(remote, {"output": ANSWERED})
    made = world.output()
    assert made is not None
    assert made.output.links.segment.startswith("http")
    assert world.charged_s() == pytest.approx(0.7)
    assert world.registry.spending.of(ENDPOINT).spent_s == pytest.approx(0.7)
    assert world.registry.remote.attempts() == []


def test_an_answer_is_found_although_its_result_never_reaches_runpod(world, monkeypatch):
    monkeypatch.setattr(bridge, "LOOK_EVERY_S", 0.0)
    with world.running():
        remote = world.submitted()
        world.answer(remote)
    assert world.output() is not None
    assert remote.status == "CANCELLED"


def test_a_remote_job_that_is_silent_past_its_deadline_is_a_lost_attempt_and_ended(world):
    with world.running():
        remote = world.submitted()
        world.clock.advance(world.bridge.limits_s + GRACE_S + 1)
    assert world.output() is None
    assert world.registry.steps.attempts("a", CHUNK.id) == 1
    assert remote.status == "CANCELLED"


def test_a_key_that_is_refused_for_a_while_costs_nothing(world):
    world.runpod.faults.add("status", Fault(401, times=3))
    with world.running():
        remote = world.submitted()
        world.answer(remote)
        world.finish(remote, {"output": ANSWERED})
    assert world.output() is not None


def test_a_worker_that_drains_before_it_begins_leaves_the_adopted_attempt_as_it_was(world):
    lease = acquire(world.registry, CHUNK.id)
    remote = NotedJob(endpoint=ENDPOINT, id="r1", deadline=world.registry.now() + 600)
    world.registry.steps.note_remote(lease, remote)
    world.registry.steps.detach(lease)
    world.is_draining.set()
    world.run()
    assert adopt(world.registry).remote == remote
    assert world.registry.steps.attempts("a", CHUNK.id) == 1


def test_an_adopted_attempt_is_followed_on_its_own_endpoint(world):
    remote = world.runpod.submit({"input": {}}, "other")
    lease = acquire(world.registry, CHUNK.id)
    deadline = world.registry.now() + 600
    noted = NotedJob(endpoint="other", id=remote.id, deadline=deadline)
    world.registry.steps.note_remote(lease, noted)
    world.registry.steps.detach(lease)
    with world.running():
        wait_for(lambda: world.runpod.faults.calls["status"] > 1)
        world.registry.jobs.cancel("a", by="a test")
    assert remote.status == "CANCELLED"
    assert world.runpod.jobs(ENDPOINT) == []


def test_waiting_is_not_charged(world):
    with world.running():
        world.submitted()
        wait_for(lambda: world.runpod.faults.calls["status"] > 2)
        world.is_draining.set()
    assert world.charged_s() == 0
    assert adopt(world.registry).remote is not None


def test_a_submission_that_may_have_been_accepted_is_paid_for_and_called_off(world):
    world.runpod.faults.add("run", Fault(504, takes_effect=True))
    world.run()
    (remote,) = world.runpod.jobs(ENDPOINT)
    order: Order = parse_order(remote.body["input"])
    assert world.registry.spending.of(ENDPOINT).spent_s > 0
    assert world.ctx.store.get(order.key(LOST_WORKERS)) == str(MAX_LOST).encode()
    assert world.registry.steps.attempts("a", CHUNK.id) == 0
    assert len(world.refusals) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_refuses_everything_costs_neither_attempt_nor_money(world, status):
    world.runpod.faults.add("run", Fault(status))
    world.run()
    assert world.registry.steps.attempts("a", CHUNK.id) == 0
    assert world.registry.spending.of(ENDPOINT).committed_s == 0
    assert len(world.refusals) == 1


def test_a_quota_of_the_endpoint_costs_neither_attempt_nor_money(world):
    body = {"error": {"code": "E_QUOTA", "message": "20 live jobs", "retryable": True}}
    world.runpod.faults.add("run", Fault(429, body=json.dumps(body).encode()))
    world.run()
    assert world.registry.steps.attempts("a", CHUNK.id) == 0
    assert world.registry.spending.of(ENDPOINT).committed_s == 0
    assert world.refusals == ["20 live jobs"]


def test_an_order_that_is_refused_alone_fails_its_chunk_and_pauses_nothing(world):
    world.runpod.faults.add("run", Fault(413))
    world.run()
    assert world.registry.steps.attempts("a", CHUNK.id) == 1
    assert world.registry.spending.of(ENDPOINT).committed_s == 0
    assert world.refusals == []


def test_a_chunk_that_the_budget_has_no_room_for_is_not_submitted(world):
    world.registry.spending.reserve(
        ENDPOINT, "x", 999, until=world.registry.now() + 60, limit_s=1000
    )
    world.run()
    assert world.runpod.jobs(ENDPOINT) == []
    assert world.registry.steps.attempts("a", CHUNK.id) == 0
    assert world.refusals == ["the budget of this hour is used up"]


@pytest.mark.parametrize(
    "result",
    [
        {"output": ANSWERED},
        {"output": {"lost": True}},
        {"error": "the worker exited with 137"},
        {"error": {"code": 7}},
        {},
    ],
    ids=str,
)
def test_an_end_without_an_answer_is_a_lost_attempt(world, result):
    with world.running():
        world.finish(world.submitted(), result)
    assert world.output() is None
    assert world.registry.steps.attempts("a", CHUNK.id) == 1
    assert not world.registry.jobs.status("a").ended


def test_the_error_of_a_worker_is_that_of_the_chunk(world):
    error = {"code": "E_OOM", "message": "80 GB", "retryable": False, "at_stage": "x"}
    with world.running():
        world.finish(
            world.submitted(), {"error": {**error, "cause_class": "", "cause_message": ""}}
        )
    failed = world.registry.jobs.status("a").result.error
    assert (failed.code, failed.message) == ("E_OOM", "80 GB")


def test_a_worker_that_declines_costs_no_attempt(world):
    declined = {"declined": {"reason": "other weights", "after_s": 30}}
    with world.running():
        world.finish(world.submitted(), {"output": declined})
    assert world.registry.steps.attempts("a", CHUNK.id) == 0


ODD = [
    "asleep",
    7,
    {"stage": "chunk_0_pre"},
    {"counter": 9, "stage": "x", "pct": 50, "details": {"stage": "y"}},
    {"counter": "9", "stage": "x", "pct": 50, "details": {}},
]
"""Progress of other programs than our handler."""


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_odd_progress_is_ignored(world, odd):
    with world.running():
        remote = world.submitted()
        world.report(remote, odd)
        world.report(remote, {"counter": 10, "stage": "chunk_0_decode", "pct": 40, "details": {}})
        wait_for(lambda: world.registry.jobs.status("a").stage == "chunk_0_decode")
        world.answer(remote)
        world.finish(remote, {"output": ANSWERED})
    assert world.output() is not None


def test_progress_that_was_overtaken_is_ignored(world):
    with world.running():
        remote = world.submitted()
        late = {"counter": 1, "stage": "chunk_0_pre", "pct": 20, "details": {}}
        world.report(remote, {**late, "counter": 2, "stage": "chunk_0_decode"})
        wait_for(lambda: world.registry.jobs.status("a").stage == "chunk_0_decode")
        world.report(remote, late)
        polls = world.runpod.faults.calls["status"]
        wait_for(lambda: world.runpod.faults.calls["status"] > polls + 2)
        assert world.registry.jobs.status("a").stage == "chunk_0_decode"
        world.answer(remote)
        world.finish(remote, {"output": ANSWERED})
