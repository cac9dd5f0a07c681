"""What is done to a farm while it works, and what must be true afterwards.

A scenario gets a stand that is up and the jobs that it has just been given, and returns when its faults happened, in
seconds since 1970. `short` and `long` are how many jobs, and how many faults where it can have many.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from farm import Job
from farm.route import Queue
from tests.chaos.stand import Stand
from tests.chaos.tally import Logbook
from tests.support.disk import fill

Faults = list[float]
WAY = ("downloads_", "embeddings_", "chunk_1_", "muxing_")
"""How a job's stages begin."""


@dataclass(frozen=True)
class Scenario:
    """`environ` names the workers' settings and their fault; `jobs` are (short, long)."""

    title: str
    happens: Callable[[Stand, Sequence[Job], int], Faults]
    jobs: tuple[int, int] = (1, 4)
    faults: tuple[int, int] = (1, 1)
    environ: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the job contract, for the first job alone."""
    ends: str | None = None
    """The error code with which the first job must end."""
    two_gpu_workers: bool = False
    """The second one takes no messages until it is told to."""
    webhook: bool = False
    """The first job has a webhook, whose receiver is the stand's."""
    small_disk: bool = False
    """All that the farm keeps lies on a disk of 256 MB, which takes the rights of root to mount."""


def kills(stand: Stand, jobs: Sequence[Job], times: int) -> Faults:
    """The gpu worker's child, the gpu worker and the cpu worker in turn, at random moments of a chunk."""
    dice, faults = random.Random(0), []
    for number in range(times):
        stand.until(lambda: any("sampling" in job.status().stage for job in jobs) or _all_ended(jobs))
        time.sleep(dice.uniform(0, 0.5))
        made = _made(jobs)
        queue: Queue = "cpu" if number % 3 == 2 else "gpu"
        os.kill(stand.children[queue].pid if number % 3 else stand.child(queue), signal.SIGKILL)
        faults.append(time.time())
        stand.until(lambda made=made: _made(jobs) > made or _all_ended(jobs))
    return faults


def as_they_are_built(stand: Stand, jobs: Sequence[Job], _: int) -> Faults:
    """The workers carry their fault with them, and note when it strikes."""
    stand.until(lambda: _all_ended(jobs))
    faults = [note.stat().st_mtime for note in (stand.settings.folder / "chaos").glob("*")]
    assert faults, "the fault never struck"
    return faults


def broker_restarts(stand: Stand, jobs: Sequence[Job], times: int) -> Faults:
    faults = []
    for number in range(times):
        _while_it_samples(stand, jobs, number)
        stand.kill_broker()
        faults.append(time.time())
        time.sleep(2)
        stand.start_broker()
    return faults


def connections_drop(stand: Stand, jobs: Sequence[Job], times: int) -> Faults:
    faults = []
    for number in range(times):
        _while_it_samples(stand, jobs, number)
        with redis.Redis.from_url(stand.broker.url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        faults.append(time.time())
    return faults


def broker_is_away(stand: Stand, jobs: Sequence[Job], seconds: int) -> Faults:
    """From just before a chunk ends."""
    _while_it_samples(stand, jobs, 1)
    stand.kill_broker()
    time.sleep(seconds)
    stand.start_broker()
    return [time.time()]


def paused_past_its_lease(stand: Stand, jobs: Sequence[Job], _: int) -> Faults:
    """Two workers believe that a chunk is theirs: one sleeps until the other has made it, and then goes on."""
    paused = [stand.child("gpu"), stand.children["gpu"].pid]
    _while_it_samples(stand, jobs, 1)
    stand.second_gpu_worker(listens=True)
    made = _made(jobs)
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    faults = [time.time()]
    stand.until(lambda: Logbook(stand.settings.folder).redone() and _made(jobs) > made + 1)
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    return faults


def store_takes_nothing(stand: Stand, jobs: Sequence[Job], seconds: int) -> Faults:
    _while_it_samples(stand, jobs, 1)
    with stand.broken_store():
        time.sleep(seconds)
    return [time.time()]


def kills_under_a_wrong_clock(stand: Stand, jobs: Sequence[Job], _: int) -> Faults:
    """Everything that keeps time has work: the reaper's messages, a lease that runs out, another attempt."""
    assert (stand.settings.folder / "chaos" / "clock").exists(), "the clock is right"
    _while_it_samples(stand, jobs, 1)
    os.kill(stand.children["gpu"].pid, signal.SIGKILL)
    return [time.time()]


def disk_is_full(stand: Stand, jobs: Sequence[Job], seconds: int) -> Faults:
    """For so long neither goods nor the broker's append-only file nor logs find room."""
    _while_it_samples(stand, jobs, 1)
    filler = fill(stand.settings.folder / "filler")
    time.sleep(seconds)
    filler.unlink()
    return [time.time()]


def forgets_everything(stand: Stand, jobs: Sequence[Job], _: int) -> Faults:
    """FLUSHALL, then `farm recover`."""
    _while_it_samples(stand, jobs, 2)
    with redis.Redis.from_url(stand.broker.url) as client:
        client.flushall()
    at = time.time()
    list(stand.farm.recover())
    return [at]


def receiver_is_broken(stand: Stand, jobs: Sequence[Job], seconds: int) -> Faults:
    """From the beginning, for so long at least, and called in vain; then the worker dies that has called it, and the
    call comes again.
    """
    assert stand.hook is not None
    stand.hook.then, mended_at = 503, time.time() + seconds
    stand.until(lambda: len(stand.hook.calls) > 1 and time.time() > mended_at)
    stand.hook.calls.clear()
    stand.hook.then = 204
    stand.until(lambda: _is_told(jobs[0]))
    assert len(stand.hook.calls) > 1, "whoever died had called"
    assert set(stand.hook.ids()) == {f"msg_{jobs[0].id}"}
    return []


def asked_to_go(stand: Stand, jobs: Sequence[Job], _: int) -> Faults:
    """SIGTERM to the worker of each stage, which is replaced; a stage that was over too soon counts with the next."""
    faults = []
    for index, stage in enumerate(WAY):
        stand.until(lambda index=index: _is_at(jobs[0], WAY[index:]))
        queue: Queue = "gpu" if stage.startswith("chunk") else "cpu"
        stand.children[queue].send_signal(signal.SIGTERM)
        faults.append(time.time())
    return faults


def _all_ended(jobs: Sequence[Job]) -> bool:
    return all(job.status().ended for job in jobs)


def _made(jobs: Sequence[Job], kind: str = "") -> int:
    """Products that are there, of all kinds or of one."""
    registry = jobs[0].context.registry
    names = [(job.id, name) for job in jobs for name in _products(job) if name.startswith(kind)]
    return sum(registry.steps.committed(*name) is not None for name in names)


def _products(job: Job) -> list[str]:
    embedded = job.context.registry.steps.committed(job.id, "embed") or {"chunks": 0}
    return ["download", "embed", *(f"generate-{chunk:04d}" for chunk in range(embedded["chunks"])), "mux"]


def _is_told(job: Job) -> bool:
    notice = job.webhook()
    assert notice is not None
    assert notice.state != "given up", notice
    return notice.state == "delivered"


def _while_it_samples(stand: Stand, jobs: Sequence[Job], chunks: int) -> None:
    """Returns in the middle of a chunk, once so many are made; AssertionError if there is nothing left to break."""

    def samples() -> bool:
        assert not _all_ended(jobs), f"the jobs ended before {chunks} chunks were made and another was under way"
        return _made(jobs, "generate") >= chunks and any("_sampling_" in job.status().stage for job in jobs)

    stand.until(samples)


def _is_at(job: Job, stages: Sequence[str]) -> bool:
    """Whether a job is at one of these; AssertionError if it has ended, for then there is nothing left to break."""
    status = job.status()
    assert not status.ended, f"the job ended before it came to {stages[0]}"
    return any(status.stage.startswith(stage) for stage in stages)


QUICK = {"FARM_LEASE_S": "3", "FARM_REAP_EVERY_S": "1"}
"""Most scenarios are not about how long a lease is."""

SCENARIOS = {
    "kills": Scenario(
        "kill -9 of gpu child, gpu worker, cpu worker in turn",
        kills,
        jobs=(2, 10),
        faults=(3, 30),
        environ={"FARM_MAX_ATTEMPTS": "20"},
    ),
    "hand": Scenario(
        "kill -9 of a worker with a message it has not begun",
        as_they_are_built,
        environ={**QUICK, "CHAOS": "die_in_hand"},
    ),
    "made": Scenario(
        "kill -9 between 'made current' and 'sent next'", as_they_are_built, environ={**QUICK, "CHAOS": "die_when_made"}
    ),
    "sent": Scenario(
        "kill -9 between 'sent next' and the message's end",
        as_they_are_built,
        environ={**QUICK, "CHAOS": "die_when_sent"},
    ),
    "broker": Scenario("broker killed and started again", broker_restarts, faults=(1, 4), environ=QUICK),
    "connections": Scenario("connections dropped", connections_drop, faults=(2, 5), environ=QUICK),
    "away": Scenario("broker gone as a chunk ends", broker_is_away, faults=(8, 60), environ=QUICK),
    "flushed": Scenario("FLUSHALL, then farm recover", forgets_everything, environ=QUICK),
    "sight": Scenario(
        "visibility timeout shorter than a chunk", as_they_are_built, environ={**QUICK, "CHAOS": "short_sight"}
    ),
    "paused": Scenario(
        "two workers hold a chunk: one paused past its lease",
        paused_past_its_lease,
        environ=QUICK,
        two_gpu_workers=True,
    ),
    "poison": Scenario(
        "a job that kills its worker",
        as_they_are_built,
        jobs=(2, 4),
        environ={**QUICK, "CHAOS": "poison"},
        fields={"prompt": "poison"},
        ends="E_WORKER_LOST",
    ),
    "writes": Scenario(
        "every third write to the store fails",
        as_they_are_built,
        environ={**QUICK, "CHAOS": "refuse_every_third_write"},
    ),
    "store": Scenario(
        "the store takes nothing for 20 s",
        store_takes_nothing,
        faults=(20, 20),
        environ={**QUICK, "CHAOS": "read_only"},
    ),
    "full": Scenario("the farm's disk is full for 20 s", disk_is_full, faults=(20, 20), environ=QUICK, small_disk=True),
    "clock": Scenario(
        "the cpu worker's clock ten minutes ahead, gpu worker killed",
        kills_under_a_wrong_clock,
        environ={**QUICK, "CHAOS": "clock_ahead"},
    ),
    "hook": Scenario(
        "a webhook's receiver broken for 20 s, then its caller killed",
        receiver_is_broken,
        faults=(20, 60),
        environ={**QUICK, "CHAOS": "die_when_called", "FARM_WEBHOOK_PAUSES_S": ",".join(["1"] * 99)},
        webhook=True,
    ),
    "term": Scenario("SIGTERM in every stage", asked_to_go, environ=QUICK),
}
