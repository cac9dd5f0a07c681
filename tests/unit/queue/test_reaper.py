"""The reaper of a farm without workers, over both brokers, on a clock that the test advances."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.logs import JsonLines
from farm.queue import reaper as reaping
from farm.queue.app import make_app
from farm.queue.brokers import open_broker
from farm.queue.dispatch import dispatch
from farm.queue.reaper import Reaper
from farm.queue.waiting import SENDING_S
from farm.registry import Lease, Registry
from farm.registry.keys import UNDELIVERED, job_key, request_key, step_key
from farm.registry.workers import ALIVE_S, worker_name
from farm.route import DOWNLOAD, Queue, Step
from farm.settings import Settings
from farm.store import open_store
from tests.support.backends import ClockBackend
from tests.support.formats import text_of
from tests.support.jobs import job_request
from tests.support.outputs import embed_output
from tests.support.steps import acquire, complete, submit_remote

CHUNK = Step("generate", 0)
WINDOW_S = 3600.0
LEASE_S = 15.0
GAP_S = SENDING_S + 1


@dataclass(frozen=True)
class Backlog:
    """Jobs whose downloads wait in the broker."""

    clock: ClockBackend
    reaper: Reaper
    running: list[Lease] = field(default_factory=list)
    """What live workers have in hand."""

    @property
    def registry(self) -> Registry:
        return self.reaper.ctx.registry

    def enter(self, *job_ids: str, **fields: object) -> None:
        """Adds jobs one after the other; the messages of all are sent."""
        for job_id in job_ids:
            self.registry.entries.add(job_id, job_request(**fields))
            assert self.reaper.reap() == 1
            self.clock.advance(GAP_S)

    def waiting(self, queue: Queue = "downloads") -> int:
        return self.reaper.broker.queued([queue])

    def receive(self, queue: Queue = "downloads") -> str:
        """Takes the next message out of its queue; the job that it is of."""
        with self.reaper.app.connection() as connection:
            message = connection.channel().basic_get(queue, no_ack=True)
        assert message is not None
        job_id: str = json.loads(message.body)[0][0]
        return job_id

    def lose(self, job_id: str) -> None:
        """Takes the next message, which is this job's, as a worker that dies at once."""
        assert self.receive() == job_id

    def start_next(self) -> str:
        """Takes the next message, as a worker that takes the lease and keeps it; its job."""
        job_id = self.receive()
        self.running.append(acquire(self.registry, DOWNLOAD.id, job_id=job_id, lease_s=LEASE_S))
        return job_id

    def copy(self, job_id: str) -> None:
        """Sends a second message for a step that has one."""
        dispatch(self.reaper.app, self.reaper.ctx, job_id, DOWNLOAD)

    def rounds(self, windows: int = 1) -> int:
        """How much is dispatched again in so many windows, at four rounds in each."""
        again = 0
        for _ in range(4 * windows):
            self.clock.advance(WINDOW_S / 4)
            for lease in self.running:
                assert self.registry.steps.renew(lease, lease_s=LEASE_S)
            again += self.reaper.reap()
        return again


def backlog(settings: Settings) -> Backlog:
    clock = ClockBackend()
    ctx = Context(settings, open_store("memory://"), Registry(clock))
    return Backlog(clock, Reaper(make_app(settings), ctx, open_broker(settings)))


def settings_of(url: str, home: Path) -> Settings:
    registry = None if url.startswith("redis") else "redis://127.0.0.1:1/0"  # it is never asked
    return Settings(
        home=home,
        broker_url=url,
        registry_url=registry,
        redispatch_after_s=WINDOW_S,
        lease_s=LEASE_S,
    )


@pytest.fixture
def on_redis(broker: str, tmp_path: Path) -> Backlog:
    return backlog(settings_of(broker, tmp_path))


@pytest.fixture
def on_rabbitmq(vhost: str, tmp_path: Path) -> Backlog:
    return backlog(settings_of(vhost, tmp_path))


@pytest.fixture(params=["redis", "rabbitmq"])
def on_both(request: pytest.FixtureRequest) -> Backlog:
    found: Backlog = request.getfixturevalue(f"on_{request.param}")
    return found


# Messages that wait


def test_a_hundred_jobs_without_a_worker_have_a_hundred_messages_after_three_windows(on_both):
    on_both.enter(*(f"job-{number}" for number in range(100)))
    assert on_both.rounds(windows=3) == 0
    assert on_both.waiting() == 100


def test_a_requeued_message_is_not_sent_again_however_long_it_waits(on_both):
    on_both.enter("a")
    on_both.receive()
    drained = acquire(on_both.registry, DOWNLOAD.id)
    on_both.copy("a")  # what the broker does with the message of a draining worker
    on_both.registry.steps.release(drained, counted=False, requeued=True)
    assert on_both.rounds(windows=3) == 0
    assert on_both.waiting() == 1


def test_a_queue_that_moves_makes_no_copies(on_both):
    on_both.enter(*(f"job-{number}" for number in range(10)))
    for left in range(9, -1, -1):
        on_both.start_next()
        assert (on_both.rounds(), on_both.waiting()) == (0, left)


# Messages that are lost


def test_a_lost_message_is_found_once_a_lease_would_have_expired(on_both):
    on_both.enter("a", "b", "c")
    on_both.lose("a")
    on_both.clock.advance(LEASE_S - 3 * GAP_S - 1)
    assert on_both.reaper.reap() == 0
    on_both.clock.advance(1)
    assert on_both.reaper.reap() == 1
    assert on_both.registry.steps.record("a", DOWNLOAD.id).dispatches == 2
    assert on_both.rounds() == 0
    assert on_both.waiting() == 3


def test_a_lost_message_that_a_copy_hides_is_found_within_a_window(on_redis):
    on_redis.enter("a", "b")
    on_redis.copy("b")
    on_redis.lose("a")
    on_redis.clock.advance(LEASE_S)
    assert on_redis.reaper.reap() == 0, "as many wait as should"
    assert on_redis.rounds() == 1
    assert on_redis.registry.steps.record("a", DOWNLOAD.id).dispatches == 2


def test_on_rabbitmq_it_is_found_once_a_message_from_behind_it_has_come(on_rabbitmq):
    on_rabbitmq.enter("a", "b", "c", "d")
    on_rabbitmq.copy("c")
    on_rabbitmq.copy("d")
    on_rabbitmq.lose("a")
    assert on_rabbitmq.rounds() == 0, "as many wait as should, and any may be its"
    assert on_rabbitmq.start_next() == "b"
    assert on_rabbitmq.rounds() == 1
    assert on_rabbitmq.registry.steps.record("a", DOWNLOAD.id).dispatches == 2
    assert on_rabbitmq.rounds() == 0


def test_a_message_in_front_of_one_of_another_priority_still_waits(on_rabbitmq):
    on_rabbitmq.enter("a")
    on_rabbitmq.enter("b", priority="high")
    on_rabbitmq.copy("a")
    assert on_rabbitmq.start_next() == "b"
    assert on_rabbitmq.rounds() == 0


def test_a_message_whose_place_in_the_index_is_lost_is_not_forgotten(on_both):
    on_both.enter("a")
    on_both.lose("a")
    on_both.clock.remove_member(UNDELIVERED, "a download")
    assert on_both.rounds(windows=2) == 1
    assert on_both.waiting() == 1


# Chunks that a bridge has left


def at_its_chunk(backlog: Backlog, job_id: str) -> None:
    """A new job whose first chunk is due."""
    backlog.registry.entries.add(job_id, job_request())
    for step_id, output in (("download", None), ("embed", embed_output(chunks=2))):
        complete(backlog.registry, step_id, output, job_id=job_id)


def left_by_a_bridge(backlog: Backlog, *, bridge_lives: bool) -> None:
    """The job `a`, whose first chunk runs at an endpoint, and is dispatched."""
    at_its_chunk(backlog, "a")
    backlog.registry.steps.claim_dispatch("a", CHUNK.id)
    lease = submit_remote(backlog.registry, CHUNK.id, for_s=10 * WINDOW_S)
    backlog.registry.steps.detach(lease)
    if bridge_lives:
        heartbeat(backlog)
    assert backlog.reaper.reap() == 1


def heartbeat(backlog: Backlog) -> None:
    backlog.registry.workers.heartbeat(worker_name("bridge", "host", 1))


def test_they_wait_for_a_bridge_as_long_as_one_lives(on_both):
    left_by_a_bridge(on_both, bridge_lives=True)
    again = 0
    for _ in range(130):  # more than a window
        on_both.clock.advance(ALIVE_S - 1)
        heartbeat(on_both)
        again += on_both.reaper.reap()
    assert (again, on_both.waiting("bridge"), on_both.waiting("gpu")) == (0, 1, 0)


def test_they_wait_for_a_bridge_though_later_chunks_have_a_gpu(on_rabbitmq):
    left_by_a_bridge(on_rabbitmq, bridge_lives=True)
    on_rabbitmq.clock.advance(GAP_S)
    at_its_chunk(on_rabbitmq, "b")
    assert on_rabbitmq.reaper.reap() == 1
    assert on_rabbitmq.receive("gpu") == "b"
    lease = acquire(on_rabbitmq.registry, CHUNK.id, job_id="b")
    on_rabbitmq.clock.advance(WINDOW_S)
    heartbeat(on_rabbitmq)
    assert on_rabbitmq.registry.steps.renew(lease, lease_s=LEASE_S)
    assert on_rabbitmq.reaper.reap() == 0
    assert (on_rabbitmq.waiting("bridge"), on_rabbitmq.waiting("gpu")) == (1, 0)


def test_they_go_to_the_gpus_once_when_no_bridge_lives_any_more(on_both):
    on_both.enter("b")
    left_by_a_bridge(on_both, bridge_lives=True)
    on_both.clock.advance(ALIVE_S + 1)
    assert on_both.reaper.reap() == 1
    assert on_both.rounds(windows=2) == 0
    assert [on_both.waiting(queue) for queue in ("bridge", "gpu", "downloads")] == [1, 1, 1]


def test_a_message_in_the_queue_of_dead_bridges_hides_no_lost_one(on_both):
    left_by_a_bridge(on_both, bridge_lives=True)
    on_both.clock.advance(ALIVE_S + 1)
    on_both.reaper.reap()
    assert on_both.receive("gpu") == "a"
    assert on_both.rounds() == 1
    assert on_both.waiting("gpu") == 1


# Jobs that fail


def test_a_job_that_fails_stops_no_other_and_its_error_is_not_quoted(on_redis, monkeypatch, caplog):
    claim_due_step = reaping.claim_due_step

    def claim_unless_a(ctx: Context, job_id: str) -> Step | None:
        if job_id == "a":
            raise ValueError("https://example.org/face.png?X-Amz-Signature=secret")
        return claim_due_step(ctx, job_id)

    monkeypatch.setattr(reaping, "claim_due_step", claim_unless_a)
    for job_id in "ab":
        on_redis.registry.entries.add(job_id, job_request())
    assert on_redis.reaper.reap() == 1
    assert on_redis.registry.steps.record("a", DOWNLOAD.id).dispatches == 0
    assert on_redis.registry.steps.record("b", DOWNLOAD.id).dispatches == 1
    (failed,) = [each for each in caplog.records if each.msg == "redispatch_failed"]
    line = JsonLines().format(failed)
    assert "ValueError" in line
    assert "secret" not in line


def test_jobs_of_another_version_end_once_and_stop_no_other(on_redis, caplog):
    newer = {
        "newer-status": job_key("newer-status"),
        "newer-request": request_key("newer-request"),
        "newer-step": step_key("newer-step", DOWNLOAD.id),
        "newer-lost": step_key("newer-lost", DOWNLOAD.id),
    }
    registry = on_redis.registry
    for job_id in ("other", *newer):
        registry.entries.add(job_id, job_request())
    registry.steps.claim_dispatch("newer-lost", DOWNLOAD.id)
    for key in newer.values():
        on_redis.clock.texts[key] = text_of({}, format=2)
    on_redis.clock.advance(LEASE_S)
    assert [on_redis.reaper.reap() for _ in range(2)] == [1, 0]
    assert registry.jobs.live() == ["other"]
    for job_id in newer:
        error = registry.jobs.status(job_id).result.error
        assert (error.code, error.message.split(":")[0]) == ("E_VERSION_SKEW", f"job {job_id}")
    assert len([each for each in caplog.records if each.msg == "job_unreadable"]) == 4
