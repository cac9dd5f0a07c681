"""The registry in a real broker: errors in plain words, few requests, one clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis

from farm.errors import FarmUnreachable
from farm.job import Event, Result
from farm.local.broker import Broker
from farm.registry import Registry, open_registry
from farm.registry.attempt_id import fence_of
from farm.settings import Settings
from tests.support.jobs import REQUEST
from tests.support.outputs import committed, output_of
from tests.support.steps import acquire, commit
from tests.support.waiting import wait_for

SHORT_S = 0.05
HOUR_S = 3600


def report(registry: Registry, stage: str, pct: float) -> None:
    registry.jobs.report(Event(job_id="a", stage=stage, pct=pct))


# The connection


def test_the_error_of_a_silent_broker_names_it_without_its_password():
    registry = open_registry("redis://:secret@127.0.0.1:1/0")
    with pytest.raises(FarmUnreachable, match=r"no broker answers at 127\.0\.0\.1:1") as caught:
        registry.jobs.status("a")
    assert "secret" not in caught.value.message


def test_the_error_of_a_broker_without_tls_asks_for_it_without_its_password(broker):
    url = broker.replace("redis://", "rediss://") + "?socket_timeout=0.1"
    with pytest.raises(FarmUnreachable, match=r"does it speak TLS, as rediss:// says\?") as caught:
        open_registry(url).jobs.status("a")
    assert broker.split("@")[0].rpartition(":")[2] not in caught.value.message


def test_a_dropped_connection_is_opened_again(broker):
    registry = open_registry(broker)
    registry.entries.add("a", REQUEST)
    with redis.Redis.from_url(broker) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert registry.jobs.status("a").state == "queued"


@pytest.mark.parametrize("setting", ["maxmemory", "min-replicas-to-write"])
def test_a_broker_that_takes_no_writes_is_named_and_may_be_retried(broker, setting):
    registry = open_registry(broker)
    message = r"the broker at 127\.0\.0\.1:\d+ takes no writes at the moment"
    with redis.Redis.from_url(broker) as client:
        client.config_set(setting, 1)
        try:
            with pytest.raises(FarmUnreachable, match=message) as caught:
                registry.entries.add("a", REQUEST)
        finally:
            client.config_set(setting, 0)
    assert caught.value.retryable
    assert registry.entries.add("a", REQUEST)


@pytest.mark.parametrize("patience", [0, 3])
def test_a_request_waits_for_the_broker_as_long_as_it_is_told_to(monkeypatch, patience):
    monkeypatch.setattr("farm.registry.redis.RETRY_DELAY_S", 0.001)
    asked = []

    def keep_trying() -> bool:
        asked.append(len(asked))
        return len(asked) <= patience

    registry = open_registry("redis://127.0.0.1:1/0", keep_trying=keep_trying)
    with pytest.raises(FarmUnreachable):
        registry.jobs.status("a")
    assert len(asked) == patience + 1


def test_a_request_that_waited_succeeds_once_the_broker_takes_it(broker, monkeypatch, caplog):
    monkeypatch.setattr("farm.registry.redis.RETRY_DELAY_S", 0.001)
    with redis.Redis.from_url(broker) as client:
        client.config_set("maxmemory", 1)

        def free_memory() -> bool:
            client.config_set("maxmemory", 0)
            return True

        registry = open_registry(broker, keep_trying=free_memory)
        assert registry.entries.add("a", REQUEST)
    assert registry.jobs.status("a").state == "queued"
    (logged,) = [record for record in caplog.records if record.msg == "broker_unreachable"]
    assert "takes no writes" in logged.farm["details"]["reason"]


def test_a_broker_that_refuses_is_named_and_not_retried(broker):
    message = r"the broker at 127\.0\.0\.1:\d+ refuses \(.*mget"
    url = f"redis://guest:secret@{broker.rpartition('@')[2]}"
    with redis.Redis.from_url(broker) as client:
        client.acl_setuser(
            "guest",
            enabled=True,
            passwords=["+secret"],
            categories=["+@all"],
            commands=["-mget"],
        )
        try:
            with pytest.raises(FarmUnreachable, match=message) as caught:
                open_registry(url, keep_trying=lambda: True).jobs.status("a")
        finally:
            client.acl_deluser("guest")
    assert not caught.value.retryable
    assert "secret" not in caught.value.message


def test_a_broker_that_has_lost_its_scripts_gets_them_again(broker):
    registry = open_registry(broker)
    registry.entries.add("a", REQUEST)
    with redis.Redis.from_url(broker) as client:
        client.script_flush()
    assert registry.entries.add("b", REQUEST)


# Requests


def requests(registry: Registry, call: Callable[[], Any]) -> int:
    """Requests for records that the broker gets in a call."""

    def total() -> int:
        stats = registry.backend.redis.info("commandstats")
        names = ("cmdstat_evalsha", "cmdstat_mget")
        return sum(stats.get(name, {"calls": 0})["calls"] for name in names)

    registry.now()  # reads the clock, which is no record, for the next seconds
    before = total()
    call()
    return total() - before


def test_a_process_changes_its_own_last_write_with_one_request(broker):
    registry = open_registry(broker)
    registry.entries.add("a", REQUEST)
    report(registry, "validation_started", 0)
    lease = acquire(registry)
    assert requests(registry, lambda: report(registry, "validation_ok", 2)) == 1
    assert requests(registry, lambda: commit(registry, lease)) == 1


def test_a_commit_reports_and_claims_what_follows_with_the_same_request(broker):
    registry = open_registry(broker)
    registry.entries.add("a", REQUEST)
    registry.jobs.status("a")
    lease = acquire(registry, "embed")
    events = [Event(stage="embeddings_ok", pct=15, job_id="a")]

    def commit_all() -> None:
        envelope = committed(output_of("embed"), attempt_id=lease.attempt_id)
        registry.commit(lease, envelope, events=events, next_step_id="generate-0000")

    assert requests(registry, commit_all) == 1
    assert registry.jobs.status("a").stage == "embeddings_ok"
    assert registry.steps.record("a", "generate-0000").dispatches == 1


def test_many_steps_are_read_with_one_request(broker):
    registry = open_registry(broker)
    steps = [("a", f"generate-{chunk:04d}") for chunk in range(50)]
    step_ids = [step_id for _, step_id in steps]
    assert requests(registry, lambda: registry.steps.dispatched_at(steps)) == 1
    assert requests(registry, lambda: registry.steps.leased(steps)) == 1
    assert requests(registry, lambda: registry.steps.waited_s("a", step_ids)) == 1


def test_no_steps_are_read_without_a_request(broker):
    registry = open_registry(broker)
    assert requests(registry, lambda: registry.steps.leased([])) == 0
    assert requests(registry, lambda: registry.steps.waited_s("a", [])) == 0


def test_a_process_with_an_outdated_cache_loses_no_update(broker):
    ours = open_registry(broker)
    theirs = open_registry(broker)
    ours.entries.add("a", REQUEST)
    report(ours, "validation_started", 0)
    report(theirs, "embeddings_ok", 15)
    report(ours, "validation_ok", 2)
    ours.jobs.end("a", "success", Result(job_id="a", status="success"))
    events = theirs.jobs.events("a", wait_s=0.05)
    assert [event.pct for event in events] == [0, 15, 15, 100]


def test_nothing_is_refused_because_of_an_outdated_cache(broker):
    ours = open_registry(broker)
    theirs = open_registry(broker)
    ours.entries.add("a", REQUEST)
    lease = acquire(ours, max_attempts=1)
    theirs.steps.release(lease, counted=False)
    again = acquire(ours, max_attempts=1)
    assert (fence_of(again.attempt_id), again.attempts) == (2, 1)


# The clock


def clock_reads(broker: str) -> int:
    """How often a broker was asked for the time."""
    with redis.Redis.from_url(broker) as client:
        return client.info("commandstats").get("cmdstat_time", {"calls": 0})["calls"]


def brokers_time(broker: str) -> float:
    with redis.Redis.from_url(broker) as client:
        seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


def test_the_clock_is_the_brokers(broker):
    registry = open_registry(broker)
    began = time.monotonic()
    registry.now()
    ahead_s = time.monotonic() - began  # at most by as long as the reading took
    before = brokers_time(broker)
    now = registry.now()
    assert before < now < brokers_time(broker) + ahead_s


def test_the_brokers_clock_is_not_read_each_time(broker):
    registry = open_registry(broker)
    before = clock_reads(broker)
    assert registry.now() < registry.now() < registry.now()
    assert clock_reads(broker) == before + 1


def test_the_brokers_clock_is_read_again_before_the_clocks_drift_apart(broker, monkeypatch):
    monkeypatch.setattr("farm.registry.redis.CLOCK_S", SHORT_S)
    registry = open_registry(broker)
    before = clock_reads(broker)
    registry.now()
    time.sleep(2 * SHORT_S)
    registry.now()
    assert clock_reads(broker) == before + 2


class AdjustableBroker(Broker):
    """A broker whose clock a test sets; it is right at first."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (package,) = find_spec("libfaketime").submodule_search_locations
        self.offset = home / "offset"
        self.set_clock(0)
        with monkeypatch.context() as faked:
            faked.setenv("LD_PRELOAD", f"{package}/vendor/libfaketime/src/libfaketime.so.1")
            faked.setenv("FAKETIME_TIMESTAMP_FILE", str(self.offset))
            faked.setenv("FAKETIME_NO_CACHE", "1")
            faked.setenv("DONT_FAKE_MONOTONIC", "1")
            super().__init__(Settings(home=home))

    def set_clock(self, ahead_s: int) -> None:
        self.offset.write_text(f"{ahead_s:+d}\n")

    def registry(self) -> Registry:
        """A registry as a process that starts now opens it."""
        return open_registry(self.url)


@pytest.fixture
def adjustable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdjustableBroker]:
    broker = AdjustableBroker(tmp_path, monkeypatch)
    yield broker
    broker.stop()


def test_the_lease_of_a_dead_worker_expires_although_the_brokers_clock_is_set_back(adjustable):
    # Given a worker that died with a lease, and a clock that is then set back by two hours
    before = adjustable.registry()
    before.entries.add("a", REQUEST)
    acquire(before, lease_s=0.5)
    adjustable.set_clock(-2 * HOUR_S)
    # When the reaper looks, whose process has seen the old time or has not
    after = adjustable.registry()
    for reaper in (before, after):
        # Then the job is orphaned within seconds
        wait_for(lambda reaper=reaper: reaper.jobs.orphaned() == ["a"])
    assert acquire(after).attempts == 2


def test_the_farms_clock_is_not_set_back_and_waits_for_the_brokers(adjustable):
    began = adjustable.registry().now()
    adjustable.set_clock(-HOUR_S)
    registry = adjustable.registry()
    assert registry.now() == pytest.approx(began, abs=5)
    assert registry.wall_time() == pytest.approx(began - HOUR_S, abs=5)
    # When 1,000 seconds have passed
    adjustable.set_clock(-HOUR_S + 1000)
    registry = adjustable.registry()
    # Then 900 have by the farm's clock
    assert registry.now() == pytest.approx(began + 900, abs=5)
    assert registry.wall_time() == pytest.approx(began - HOUR_S + 1000, abs=5)


def test_the_farms_clock_is_the_brokers_again_once_that_has_caught_up(adjustable):
    adjustable.registry().now()
    adjustable.set_clock(-10)
    adjustable.registry().now()
    adjustable.set_clock(HOUR_S)
    registry = adjustable.registry()
    assert registry.now() == pytest.approx(registry.wall_time(), abs=1)


def test_the_clock_can_be_read_while_the_broker_takes_no_writes(broker):
    with redis.Redis.from_url(broker) as client:
        client.delete("farm:clock")
        client.config_set("maxmemory", 1)
        try:
            assert open_registry(broker).now() == pytest.approx(time.time(), abs=5)
        finally:
            client.config_set("maxmemory", 0)
