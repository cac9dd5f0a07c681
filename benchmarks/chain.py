"""What the farm itself costs: jobs whose steps do nothing, against bare Celery chains.

    python -m benchmarks.chain [--jobs 200] [--rounds 3]

A bare chain is four no-op tasks. Both kinds of job go through one broker and the same worker
processes (two for the cpu queue, one for the gpu queue), by turns. A round of a kind is a burst,
all jobs at once, and then as many jobs one by one. Store, broker and scratch folders are in memory,
unless TMPDIR says otherwise.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from math import nan
from pathlib import Path
from statistics import median

import psutil
import redis
from celery import Celery, chain

from farm import Farm
from farm.local.supervisor import Supervisor, open_supervisor
from farm.queue.app import make_app
from farm.queue.brokers.redis import MESSAGE_PRIORITIES
from farm.route import STEP_SPECS, StepKind
from farm.settings import Settings

REQUEST = {
    "prompt": "a woman talks",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}
STEP_KINDS: tuple[StepKind, ...] = ("download", "embed", "generate", "mux")

NOOP = "noop."
"""The prefix of the names of no-op tasks; a kind of step follows."""

WARM_UP = 10
"""Jobs of each kind that go first, so that no measurement includes imports and new connections."""

MEMORY = Path("/dev/shm")  # noqa: S108  # for folders with random names
"""A file system in memory. On ext4 a new file costs up to .4 ms of CPU, as long as many that were
removed in the last minutes lie near it, which is ten times what the farm does for it.
"""

TIMEOUT_S = 120.0

Send = Callable[[], str]
"""Submits a job and returns its id."""


@dataclass
class Cost:
    """What jobs of one kind cost: one value for each burst, but for `single_ms` and `burst_ms`."""

    jobs_per_s: list[float] = field(default_factory=list)
    spent: list[dict[str, float]] = field(default_factory=list)
    """Resources for each job, by name."""
    single_ms: list[float] = field(default_factory=list)
    """From submission to `generate`, for each job that ran alone."""
    burst_ms: list[float] = field(default_factory=list)
    """The same for each job of a burst."""

    def figures(self) -> dict[str, float]:
        """Each row of the table by its name."""
        names = list(self.spent[0])
        spent = {name: median(each[name] for each in self.spent) for name in names}
        return {
            "jobs a second, in a burst": median(self.jobs_per_s),
            "ms from submission to generate, one by one: p50": quantile(self.single_ms, 0.5),
            "ms from submission to generate, one by one: p99": quantile(self.single_ms, 0.99),
            "ms from submission to generate, in a burst: p50": quantile(self.burst_ms, 0.5),
            "ms from submission to generate, in a burst: p99": quantile(self.burst_ms, 0.99),
            **{f"a job's {name}": value for name, value in spent.items()},
        }


class Timestamps:
    """What workers write down: when the `generate` of a job began, and when its `mux` was done."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.file = path.open()
        self.times: dict[tuple[str, str], float] = {}
        self.rest = ""

    def time(self, kind: str, job_id: str) -> float:
        """Seconds since 1970, waited for; TimeoutError if it is not written for long."""
        deadline = time.monotonic() + TIMEOUT_S
        while (kind, job_id) not in self.times:
            self._read()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{kind} of {job_id}: no timestamp within {TIMEOUT_S:g} s")
            time.sleep(0.002)
        return self.times[kind, job_id]

    def _read(self) -> None:
        text = self.rest + self.file.read()
        *lines, self.rest = text.split("\n")  # the last line may be half written
        for line in lines:
            kind, job_id, seconds = line.split()
            self.times[kind, job_id] = float(seconds)


def timestamps_path(settings: Settings) -> Path:
    """The file of lines `kind job_id seconds` that workers write."""
    return settings.folder / "timestamps"


def bare_chain(app: Celery) -> Send:
    """Sends a chain of four no-op tasks, with the queues and the priority of a job's messages."""
    numbers = count()

    def send() -> str:
        job_id = f"noop-{next(numbers)}"
        signatures = []
        for kind in STEP_KINDS:
            options = {
                "queue": STEP_SPECS[kind].queue,
                "priority": MESSAGE_PRIORITIES["normal"],
            }
            signature = app.signature(NOOP + kind, args=(job_id,), immutable=True, options=options)
            signatures.append(signature)
        chain(*signatures).apply_async()
        return job_id

    return send


def run_burst(
    send: Send, jobs: int, supervisor: Supervisor, timestamps: Timestamps, cost: Cost
) -> None:
    """Runs all jobs at once."""
    before = resources(supervisor)
    start = time.time()
    start_cpu = time.process_time()
    sent_at = {}
    for _ in range(jobs):
        now = time.time()
        sent_at[send()] = now
    sending_s = time.process_time() - start_cpu  # without the wait for timestamps
    end = max(timestamps.time("mux", job_id) for job_id in sent_at)
    after = resources(supervisor, sending_s)
    cost.jobs_per_s.append(jobs / (end - start))
    cost.spent.append({name: (value - before[name]) / jobs for name, value in after.items()})
    for job_id, sent in sent_at.items():
        cost.burst_ms.append(1000 * (timestamps.time("generate", job_id) - sent))


def run_one_by_one(send: Send, jobs: int, timestamps: Timestamps, cost: Cost) -> None:
    """Runs each job when the one before it is done."""
    for _ in range(jobs):
        sent = time.time()
        job_id = send()
        timestamps.time("mux", job_id)
        cost.single_ms.append(1000 * (timestamps.time("generate", job_id) - sent))


def resources(supervisor: Supervisor, sending_s: float = 0.0) -> dict[str, float]:
    """Requests to the broker and milliseconds of CPU by process, so far; for submissions those
    since the burst began.
    """
    with redis.Redis.from_url(supervisor.settings.broker_address) as client:
        broker = client.info("everything")
    cpu_ms = {
        "broker, CPU ms": 1000 * (broker["used_cpu_user"] + broker["used_cpu_sys"]),
        "submission, CPU ms": 1000 * sending_s,
    }
    for queue, child in supervisor.children.items():
        cpu_ms[f"{queue} worker, CPU ms"] = _cpu_ms(child.pid)
    return {
        "requests to the broker": broker["total_reads_processed"],
        **cpu_ms,
        "CPU ms in all": sum(cpu_ms.values()),
    }


def _cpu_ms(pid: int) -> float:
    worker = psutil.Process(pid)
    times = [process.cpu_times() for process in (worker, *worker.children(recursive=True))]
    return 1000 * sum(each.user + each.system for each in times)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def measure(supervisor: Supervisor, *, jobs: int, rounds: int) -> dict[str, Cost]:
    """The cost of each kind of job: `the farm` and `bare chain`."""
    farm = Farm(settings=supervisor.settings)
    kinds: dict[str, Send] = {
        "the farm": lambda: farm.submit(REQUEST).id,
        "bare chain": bare_chain(make_app(supervisor.settings)),
    }
    costs = {name: Cost() for name in kinds}
    timestamps = Timestamps(timestamps_path(supervisor.settings))
    for send in kinds.values():
        run_burst(send, WARM_UP, supervisor, timestamps, Cost())
    for _ in range(rounds):
        for name, send in kinds.items():
            run_burst(send, jobs, supervisor, timestamps, costs[name])
            run_one_by_one(send, jobs, timestamps, costs[name])
    return costs


def table(costs: Mapping[str, Cost]) -> str:
    """A row for each figure: of the farm, of the bare chain, and the farm's as a multiple of it.

    The ratio is nan where jobs took less than the 10 ms in which the system counts CPU time.
    """
    lines = [f"{'':52}{'the farm':>10}{'bare chain':>12}{'ratio':>8}"]
    bare_figures = costs["bare chain"].figures()
    for name, farm_figure in costs["the farm"].figures().items():
        bare_figure = bare_figures[name]
        ratio = _ratio(farm_figure, bare_figure)
        if name.startswith("jobs a second"):  # here more is better
            ratio = _ratio(bare_figure, farm_figure)
        lines.append(f"{name:52}{farm_figure:10.1f}{bare_figure:12.1f}{ratio:8.2f}")
    return "\n".join(lines)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else nan


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if MEMORY.is_dir():
        os.environ.setdefault("TMPDIR", str(MEMORY))
        tempfile.tempdir = None  # it is looked up again
    with (
        tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home,
        open_supervisor(Settings(home=Path(home)), application="benchmarks.noop") as supervisor,
    ):
        print(table(measure(supervisor, jobs=options.jobs, rounds=options.rounds)))


if __name__ == "__main__":
    main()
