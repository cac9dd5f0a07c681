"""What the farm itself costs: jobs without any work, against bare Celery chains of four empty tasks.

    python -m benchmarks.chain [--jobs 200] [--rounds 3]

Both kinds go through one broker and the same worker processes (two for the cpu queue, one for the gpu queue), in turns.
A round of a kind is a burst, all jobs at once, and then as many jobs one after the other.
"""

from __future__ import annotations

import argparse
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
from farm.queue.app import TASK_ROUTES, PRIORITIES
from farm.settings import Settings

REQUEST = {
    "prompt": "a woman talks",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
}
STEP_KINDS = ("download", "embed", "generate", "mux")

EMPTY = "empty."
"""What an empty task's name begins with; its station follows."""

WARM_UP = 10
"""Jobs of each kind that go before, so that nothing is imported or connected for the first time while it counts."""

PATIENCE_S = 120.0

Send = Callable[[], str]
"""Sends a job on its way and returns its id."""


@dataclass
class Cost:
    """What one kind of job costs: milliseconds from submission to `generate` for each job, the rest for each burst."""

    jobs_per_s: list[float] = field(default_factory=list)
    spent: list[dict[str, float]] = field(default_factory=list)
    alone_ms: list[float] = field(default_factory=list)
    burst_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Each row of the table by its name."""
        spent = {name: median(each[name] for each in self.spent) for name in self.spent[0]}
        return {
            "jobs a second, in a burst": median(self.jobs_per_s),
            "ms from submission to generate, one by one: p50": quantile(self.alone_ms, 0.5),
            "ms from submission to generate, one by one: p99": quantile(self.alone_ms, 0.99),
            "ms from submission to generate, in a burst: p50": quantile(self.burst_ms, 0.5),
            "ms from submission to generate, in a burst: p99": quantile(self.burst_ms, 0.99),
            **{f"a job's {name}": value for name, value in spent.items()},
        }


class Notebook:
    """What workers note: when a job's `generate` began, and when its `mux` was done."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.file = path.open()
        self.seen: dict[tuple[str, str], float] = {}
        self.rest = ""

    def when(self, kind: str, job_id: str) -> float:
        """Seconds since 1970, waited for; TimeoutError if nothing is noted for long."""
        deadline = time.monotonic() + PATIENCE_S
        while (kind, job_id) not in self.seen:
            *lines, self.rest = (self.rest + self.file.read()).split("\n")  # the last one may be half written
            for line in lines:
                what, which, seconds = line.split()
                self.seen[what, which] = float(seconds)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{kind} of {job_id}: not noted within {PATIENCE_S:g} s")
            time.sleep(0.002)
        return self.seen[kind, job_id]


def notes(settings: Settings) -> Path:
    """The file of lines `station job_id seconds` that workers write."""
    return settings.folder / "notes"


def bare(app: Celery) -> Send:
    """Sends a chain of four empty tasks, with the queues and the priority of a job's."""
    numbers = count()

    def send() -> str:
        job_id = f"empty-{next(numbers)}"
        options = {"priority": PRIORITIES["normal"]}
        signatures = [
            app.signature(EMPTY + kind, args=(job_id,), immutable=True, options={**options, "queue": TASK_ROUTES[kind].queue})
            for kind in STEP_KINDS
        ]
        chain(*signatures).apply_async()
        return job_id

    return send


def burst(send: Send, jobs: int, supervisor: Supervisor, notebook: Notebook, cost: Cost) -> None:
    """All jobs at once."""
    before, began = spent(supervisor), time.time()
    sent = {}
    for _ in range(jobs):
        now = time.time()
        sent[send()] = now
    ended = max(notebook.when("mux", job_id) for job_id in sent)
    cost.jobs_per_s.append(jobs / (ended - began))
    cost.spent.append({name: (value - before[name]) / jobs for name, value in spent(supervisor).items()})
    cost.burst_ms += [1000 * (notebook.when("generate", job_id) - now) for job_id, now in sent.items()]


def one_by_one(send: Send, jobs: int, notebook: Notebook, cost: Cost) -> None:
    """Each job when the one before it is done."""
    for _ in range(jobs):
        now = time.time()
        job_id = send()
        notebook.when("mux", job_id)
        cost.alone_ms.append(1000 * (notebook.when("generate", job_id) - now))


def spent(supervisor: Supervisor) -> dict[str, float]:
    """What was used up so far: requests that reached the broker, and milliseconds of processors by whom."""
    with redis.Redis.from_url(supervisor.settings.broker_address) as client:
        broker = client.info("everything")
    workers = {f"{queue} worker, CPU ms": _cpu_ms(child.pid) for queue, child in supervisor.children.items()}
    processors = {
        "broker, CPU ms": 1000 * (broker["used_cpu_user"] + broker["used_cpu_sys"]),
        "submission, CPU ms": 1000 * time.process_time(),
        **workers,
    }
    trips = {"round trips to the broker": broker["total_reads_processed"]}
    return {**trips, **processors, "CPU ms in all": sum(processors.values())}


def _cpu_ms(pid: int) -> float:
    worker = psutil.Process(pid)
    times = [process.cpu_times() for process in (worker, *worker.children(recursive=True))]
    return 1000 * sum(each.user + each.system for each in times)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def measured(supervisor: Supervisor, *, jobs: int, rounds: int) -> dict[str, Cost]:
    """What a job costs by its kind, `the farm` or `bare chain`."""
    farm = Farm(settings=supervisor.settings)
    kinds: dict[str, Send] = {"the farm": lambda: farm.submit(REQUEST).id, "bare chain": bare(supervisor.app)}
    costs = {name: Cost() for name in kinds}
    notebook = Notebook(notes(supervisor.settings))
    for send in kinds.values():
        burst(send, WARM_UP, supervisor, notebook, Cost())
    for _ in range(rounds):
        for name, send in kinds.items():
            burst(send, jobs, supervisor, notebook, costs[name])
            one_by_one(send, jobs, notebook, costs[name])
    return costs


def table(costs: Mapping[str, Cost]) -> str:
    """A row for each figure: of the farm, of the bare chain, and how many times dearer the farm is.

    That is nan where a few jobs took less than the 10 ms in which the system counts CPU.
    """
    lines = [f"{'':52}{'the farm':>10}{'bare chain':>12}{'ratio':>8}"]
    bare_figures = costs["bare chain"].figures()
    for name, ours in costs["the farm"].figures().items():
        theirs = bare_figures[name]
        dear, cheap = (theirs, ours) if name.startswith("jobs a second") else (ours, theirs)
        ratio = dear / cheap if cheap else nan
        lines.append(f"{name:52}{ours:10.1f}{theirs:12.1f}{ratio:8.2f}")
    return "\n".join(lines)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--jobs", type=int, default=200)
    words.add_argument("--rounds", type=int, default=3)
    given = words.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home,
        open_supervisor(Settings(home=Path(home)), application="benchmarks.hollow") as supervisor,
    ):
        print(table(measured(supervisor, jobs=given.jobs, rounds=given.rounds)))


if __name__ == "__main__":
    main()
