"""What is done to a farm while it works, and how its jobs must end.

The function of a scenario gets a testbed and the jobs that were just submitted to it. It returns
when its faults happened, in seconds since 1970.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import redis

from farm import Job
from farm.engine.advance import chunk_count
from farm.route import Step, WorkerKind, steps_of_job
from tests.chaos.outcome import WorkerLogs
from tests.chaos.testbed import Testbed
from tests.support.disk import fill_disk

Faults = list[float]

STAGES = ("downloads_", "embeddings_", "chunk_1_", "muxing_")
"""How the names of a job's stages begin, in their order."""


@dataclass(frozen=True)
class Scenario:
    """`environ` are variables of the workers, with their fault; pairs are short and long runs."""

    title: str
    disturb: Callable[[Testbed, Sequence[Job], int], Faults]
    """Takes the number of faults too, or the seconds that one lasts."""
    jobs: tuple[int, int] = (1, 4)
    faults: tuple[int, int] = (1, 1)
    environ: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the first job alone."""
    error_code: str | None = None
    """The error with which the first job must end."""
    two_gpu_workers: bool = False
    """The second one consumes no messages at first."""
    webhook: bool = False
    """The first job has a webhook, whose receiver is the testbed's."""
    only_on: Literal["redis", "rabbitmq"] | None = None
    """The broker that has what it is about."""
    small_disk: bool = False
    """All files of the farm are on a small disk, which only root may mount."""


def kill_workers(bed: Testbed, jobs: Sequence[Job], times: int) -> Faults:
    """Kills the gpu child, the gpu worker and the cpu worker in turn, at random moments."""
    dice = random.Random(0)
    faults = []
    for number in range(times):
        bed.wait_for(lambda: _is_sampling(jobs) or _all_ended(jobs))
        time.sleep(dice.uniform(0, 0.5))
        before = _committed(jobs)
        kills = [bed.child_of("gpu"), bed.children["gpu"].pid, bed.children["cpu"].pid]
        os.kill(kills[number % 3], signal.SIGKILL)
        faults.append(time.time())
        bed.wait_for(lambda before=before: _committed(jobs) > before or _all_ended(jobs))
    return faults


def let_workers_fail(bed: Testbed, jobs: Sequence[Job], _: int) -> Faults:
    """Waits for the fault that is built into the workers; they note when it strikes."""
    bed.wait_for(lambda: _all_ended(jobs))
    faults = [note.stat().st_mtime for note in (bed.settings.folder / "chaos").glob("*")]
    assert faults, "the fault never struck"
    return faults


def restart_broker(bed: Testbed, jobs: Sequence[Job], times: int) -> Faults:
    faults = []
    for number in range(times):
        _wait_until_sampling(bed, jobs, number)
        bed.kill_broker()
        faults.append(time.time())
        time.sleep(2)
        bed.start_broker()
    return faults


def drop_connections(bed: Testbed, jobs: Sequence[Job], times: int) -> Faults:
    faults = []
    for number in range(times):
        _wait_until_sampling(bed, jobs, number)
        bed.drop_connections()
        faults.append(time.time())
    return faults


def stop_broker_for_long(bed: Testbed, jobs: Sequence[Job], seconds: int) -> Faults:
    """Begins just before a chunk ends."""
    _wait_until_sampling(bed, jobs, 1)
    bed.kill_broker()
    time.sleep(seconds)
    bed.start_broker()
    return [time.time()]


def pause_worker_past_its_lease(bed: Testbed, jobs: Sequence[Job], _: int) -> Faults:
    """Two workers take a chunk for theirs: one is paused until the other has committed it."""
    paused = [bed.child_of("gpu"), bed.children["gpu"].pid]
    _wait_until_sampling(bed, jobs, 1)
    bed.enable_second_gpu_worker()
    before = _committed(jobs)
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    faults = [time.time()]
    logs = bed.settings.folder
    bed.wait_for(lambda: WorkerLogs(logs).redone() and _committed(jobs) > before + 1)
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    return faults


def break_store(bed: Testbed, jobs: Sequence[Job], seconds: int) -> Faults:
    _wait_until_sampling(bed, jobs, 1)
    with bed.broken_store():
        time.sleep(seconds)
    return [time.time()]


def kill_under_a_wrong_clock(bed: Testbed, jobs: Sequence[Job], _: int) -> Faults:
    """Uses everything that keeps time: the reaper, a lease that expires, an attempt."""
    assert (bed.settings.folder / "chaos" / "clock").exists(), "the clock is right"
    _wait_until_sampling(bed, jobs, 1)
    os.kill(bed.children["gpu"].pid, signal.SIGKILL)
    return [time.time()]


def alarm_rabbitmq(bed: Testbed, jobs: Sequence[Job], seconds: int) -> Faults:
    """Too little memory, then too little disk, each while a chunk ends."""
    assert bed.rabbitmq is not None
    faults = []
    for chunks, resource in enumerate(("memory", "disk")):
        _wait_until_sampling(bed, jobs, chunks)
        with bed.rabbitmq.alarm(resource):
            time.sleep(seconds)
        faults.append(time.time())
    return faults


def fill_the_disk(bed: Testbed, jobs: Sequence[Job], seconds: int) -> Faults:
    """Leaves no space for objects, the broker's append-only file and logs."""
    _wait_until_sampling(bed, jobs, 1)
    filler = fill_disk(bed.settings.folder / "filler")
    time.sleep(seconds)
    filler.unlink()
    return [time.time()]


def lose_everything(bed: Testbed, jobs: Sequence[Job], _: int) -> Faults:
    """FLUSHALL of the registry, then `farm recover`."""
    _wait_until_sampling(bed, jobs, 2)
    with redis.Redis.from_url(bed.redis.url) as client:
        client.flushall()
    fault = time.time()
    list(bed.farm.recover())
    return [fault]


def break_receiver(bed: Testbed, jobs: Sequence[Job], seconds: int) -> Faults:
    """The receiver of the webhook fails at first; then the worker that called it successfully dies,
    and the call is repeated.
    """
    hook = bed.hook
    assert hook is not None
    hook.then = 503
    mended_at = time.time() + seconds
    bed.wait_for(lambda: len(hook.calls) > 1 and time.time() > mended_at)
    hook.calls.clear()
    hook.then = 204
    bed.wait_for(lambda: _is_notified(jobs[0]))
    assert len(hook.calls) > 1, "the worker that died had called"
    assert set(hook.ids()) == {f"msg_{jobs[0].id}"}
    return []


def drain_workers(bed: Testbed, jobs: Sequence[Job], _: int) -> Faults:
    """SIGTERM to the worker of each stage; a stage that was too short counts with the next."""
    faults = []
    for index, stage in enumerate(STAGES):
        bed.wait_for(lambda index=index: _is_at(jobs[0], STAGES[index:]))
        kind: WorkerKind = "gpu" if stage.startswith("chunk") else "cpu"
        bed.children[kind].send_signal(signal.SIGTERM)
        faults.append(time.time())
    return faults


def _all_ended(jobs: Sequence[Job]) -> bool:
    return all(job.status().ended for job in jobs)


def _is_sampling(jobs: Sequence[Job]) -> bool:
    return any("_sampling_" in job.status().stage for job in jobs)


def _committed(jobs: Sequence[Job], kind: str = "") -> int:
    """Committed steps, of all kinds or of one."""
    return sum(
        job.context.registry.steps.committed(job.id, step.id) is not None
        for job in jobs
        for step in _steps(job)
        if step.kind.startswith(kind)
    )


def _steps(job: Job) -> list[Step]:
    return steps_of_job(chunk_count(job.context, job.id))


def _is_notified(job: Job) -> bool:
    webhook = job.webhook()
    assert webhook is not None
    assert webhook.state != "failed", webhook
    return webhook.state == "delivered"


def _wait_until_sampling(bed: Testbed, jobs: Sequence[Job], chunks: int) -> None:
    """Returns in the middle of a chunk, once so many are committed.

    AssertionError if the jobs end before, so that nothing is left to disturb.
    """

    def is_sampling() -> bool:
        message = f"the jobs ended before {chunks} chunks were committed and another was under way"
        assert not _all_ended(jobs), message
        return _committed(jobs, "generate") >= chunks and _is_sampling(jobs)

    bed.wait_for(is_sampling)


def _is_at(job: Job, stages: Sequence[str]) -> bool:
    """Whether a job is at one of these stages; AssertionError if it has ended."""
    status = job.status()
    assert not status.ended, f"the job ended before it came to {stages[0]}"
    return any(status.stage.startswith(stage) for stage in stages)


QUICK = {"FARM_LEASE_S": "3", "FARM_REAP_EVERY_S": "1"}
"""No scenario is about how long a lease is."""

SCENARIOS = {
    "kills": Scenario(
        "kill -9 of gpu child, gpu worker, cpu worker in turn",
        kill_workers,
        jobs=(2, 10),
        faults=(3, 30),
        environ={**QUICK, "FARM_MAX_ATTEMPTS": "20"},
    ),
    "delivery": Scenario(
        "kill -9 of a worker with a message it has not begun",
        let_workers_fail,
        environ={**QUICK, "CHAOS": "die_on_delivery"},
    ),
    "commit": Scenario(
        "kill -9 between commit and dispatch of the next",
        let_workers_fail,
        environ={**QUICK, "CHAOS": "die_after_commit"},
    ),
    "dispatch": Scenario(
        "kill -9 between dispatch of the next and own ack",
        let_workers_fail,
        environ={**QUICK, "CHAOS": "die_after_dispatch"},
    ),
    "broker": Scenario(
        "broker killed and restarted",
        restart_broker,
        faults=(1, 4),
        environ={**QUICK, "FARM_LEASE_S": "15"},  # longer than the broker is down
    ),
    "connections": Scenario("connections dropped", drop_connections, faults=(2, 5), environ=QUICK),
    "outage": Scenario(
        "broker down as a chunk ends", stop_broker_for_long, faults=(8, 60), environ=QUICK
    ),
    "flushed": Scenario("FLUSHALL, then farm recover", lose_everything, environ=QUICK),
    "visibility": Scenario(
        "visibility timeout shorter than a chunk",
        let_workers_fail,
        environ={**QUICK, "CHAOS": "short_visibility"},
        only_on="redis",
    ),
    "paused": Scenario(
        "two workers hold a chunk: one paused past its lease",
        pause_worker_past_its_lease,
        environ=QUICK,
        two_gpu_workers=True,
    ),
    "poison": Scenario(
        "a job that kills its worker",
        let_workers_fail,
        jobs=(2, 4),
        environ={**QUICK, "CHAOS": "poison"},
        fields={"prompt": "poison"},
        error_code="E_WORKER_LOST",
    ),
    "writes": Scenario(
        "every third write to the store fails",
        let_workers_fail,
        environ={**QUICK, "CHAOS": "refuse_every_third_write"},
    ),
    "store": Scenario(
        "the store refuses writes for 20 s",
        break_store,
        faults=(20, 20),
        environ={**QUICK, "CHAOS": "read_only"},
    ),
    "disk": Scenario(
        "the farm's disk is full for 20 s",
        fill_the_disk,
        faults=(20, 20),
        environ=QUICK,
        small_disk=True,
    ),
    "clock": Scenario(
        "cpu worker's clock ten minutes ahead, gpu worker killed",
        kill_under_a_wrong_clock,
        environ={**QUICK, "CHAOS": "clock_ahead"},
    ),
    "webhook": Scenario(
        "webhook receiver broken, then its caller killed",
        break_receiver,
        faults=(3, 60),
        environ={
            **QUICK,
            "CHAOS": "die_after_webhook",
            "FARM_WEBHOOK_RETRY_DELAYS_S": ",".join(["1"] * 999),
        },
        webhook=True,
    ),
    "alarms": Scenario(
        "RabbitMQ's memory alarm, then its disk alarm",
        alarm_rabbitmq,
        faults=(8, 60),
        environ=QUICK,
        only_on="rabbitmq",
    ),
    "drain": Scenario("SIGTERM in every stage", drain_workers, environ=QUICK),
}
