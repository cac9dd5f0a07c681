"""Waits in a small real farm, against those that `farm simulate` predicts for the same submissions.

    python -m benchmarks.simulated [--gpus 3] [--jobs 100] [--load 0.8] [--seed 0] [--scaled]

Real are the broker, the registry, the messages and the workers; a chunk sleeps instead of computing
(`benchmarks.paced`). What the simulation is told is measured first, with jobs that run alone: the
seconds before the first chunk, and those of a chunk with the farm's share in it.

`--scaled` begins with one gpu worker. An autoscaler does what KEDA does for a ScaledJob: it starts
as many as there are jobs that can use one, and they leave by FARM_IDLE_EXIT_S.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from math import inf, nan
from pathlib import Path
from statistics import mean, median

from benchmarks.chain import REQUEST, timestamps_path
from farm import Farm
from farm.local.process import spawn, stop
from farm.local.supervisor import open_supervisor
from farm.local.worker import worker_command, worker_environ
from farm.registry import farm_registry
from farm.registry.statistics import read_statistics
from farm.settings import Settings
from farm.simulation.arrivals import arrivals
from farm.simulation.fleet import Fleet, Video
from farm.simulation.run import Outcome, Run
from farm.simulation.scenario import quantile

APPLICATION = "benchmarks.paced"
CHUNKS = 3
CHUNK_S = 2.0

IDLE_EXIT_S = 10.0
POLL_S = 2.0
"""Of the autoscaler."""

CALIBRATING = 5
"""Jobs that run alone first."""

TIMEOUT_S = 300.0


@contextmanager
def pace(chunks: int, chunk_s: float) -> Iterator[None]:
    """Workers that are started within the block make so many chunks of so many seconds."""
    ours = {"PACED_CHUNKS": str(chunks), "PACED_CHUNK_S": str(chunk_s)}
    os.environ |= ours
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


class Log:
    """The times that the workers have written, of all chunks."""

    def __init__(self, settings: Settings) -> None:
        self._path = timestamps_path(settings)

    def times(self, kind: str) -> Mapping[str, list[float]]:
        """When each job's steps of a kind were begun, or for `mux` done."""
        found: dict[str, list[float]] = defaultdict(list)
        text = self._path.read_text() if self._path.is_file() else ""
        for line in text.splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[0] == kind:
                found[parts[1]].append(float(parts[2]))
        return found

    def wait_for_end(self, job_ids: Sequence[str]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not set(job_ids) <= self.times("mux").keys():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(job_ids)} jobs did not end within {TIMEOUT_S:g} s")
            time.sleep(0.1)


class Workers:
    """The gpu workers beside the supervisor's, with when each was started and when it ended."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.children: list[subprocess.Popen[bytes]] = []
        self.lives: list[list[float]] = []

    def start(self, **variables: str) -> None:
        number = len(self.children)
        command = worker_command("gpu", self.settings, application=APPLICATION)
        command[command.index("--hostname") + 1] = f"gpu-{number}@%h"
        environ = {
            **os.environ,
            "FARM_HOME": str(self.settings.folder),
            "FARM_BROKER_URL": self.settings.broker_address,
            **variables,
        }
        log = self.settings.folder / "logs" / f"gpu-{number}.log"
        self.children.append(spawn(command, log=log, environ=worker_environ(environ)))
        self.lives.append([time.time(), inf])

    def wait_until_ready(self) -> None:
        registry = farm_registry(self.settings)
        while registry.workers.count_alive()["gpu"] < 1 + len(self.children):
            if self.running < len(self.children):
                raise RuntimeError(f"a gpu worker ended: {self.settings.folder / 'logs'}")
            time.sleep(0.1)

    @property
    def running(self) -> int:
        """How many there are; notes when others ended."""
        for child, life in zip(self.children, self.lives, strict=True):
            if child.poll() is not None:
                life[1] = min(life[1], time.time())
        return sum(life[1] == inf for life in self.lives)

    def paid_s(self, start: float, end: float) -> float:
        """The seconds of all workers between two times, the supervisor's among them."""
        overlaps = (min(end, ended) - max(start, began) for began, ended in self.lives)
        return end - start + sum(max(0.0, overlap) for overlap in overlaps)

    def stop(self) -> None:
        stop(self.children, grace_s=self.settings.grace_s)


@contextmanager
def autoscaler(workers: Workers, fleet: Fleet) -> Iterator[None]:
    """Starts workers by the number of jobs, as KEDA does for a ScaledJob, within the block."""
    registry = farm_registry(workers.settings)
    over = threading.Event()

    def poll() -> None:
        while not over.wait(fleet.poll_s):
            jobs = read_statistics(registry, lease_s=workers.settings.lease_s).runnable
            for _ in range(fleet.wanted(jobs, 0.0) - 1 - workers.running):
                workers.start(FARM_IDLE_EXIT_S=str(fleet.idle_exit_s))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def submit(farm: Farm, times: Sequence[float]) -> dict[str, float]:
    """Submits a job at each of the times; when each was submitted."""
    start = time.time()
    submitted = {}
    for at in times:
        time.sleep(max(0.0, start + at - time.time()))
        now = time.time()
        submitted[farm.submit(REQUEST).id] = now
    return submitted


def calibrate(farm: Farm, log: Log) -> Video:
    """What a video takes that runs alone."""
    prepared, chunks = [], []
    for _ in range(CALIBRATING):
        ((job_id, at),) = submit(farm, [0.0]).items()
        log.wait_for_end([job_id])
        begun = log.times("generate")[job_id]
        prepared.append(begun[0] - at)
        chunks += [later - earlier for earlier, later in pairwise(begun)]
    return Video(CHUNKS, median(chunks), seconds=9, prepare_s=median(prepared))


def compare(
    *,
    gpus: int,
    jobs: int,
    load: float,
    seed: int = 0,
    chunk_s: float = CHUNK_S,
    scaled: bool = False,
) -> dict[str, tuple[float, float]]:
    """Each figure as predicted and as measured, in seconds."""
    per_hour = load * gpus * 3600 / (CHUNKS * chunk_s)
    times = arrivals("steady", per_hour=per_hour, hours=jobs / per_hour, seed=seed)
    with ExitStack() as cleanup:
        cleanup.enter_context(pace(CHUNKS, chunk_s))
        home = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="farm-benchmarks-"))
        supervisor = cleanup.enter_context(
            open_supervisor(Settings(home=Path(home)), application=APPLICATION)
        )
        workers = Workers(supervisor.settings)
        cleanup.callback(workers.stop)
        farm = Farm(settings=supervisor.settings)
        log = Log(supervisor.settings)
        video = calibrate(farm, log)
        fleet = Fleet(gpus, min_gpus=gpus)
        if scaled:
            fleet = Fleet(
                gpus, 1, cold_start_s=cold_start(workers), idle_exit_s=IDLE_EXIT_S, poll_s=POLL_S
            )
            cleanup.enter_context(autoscaler(workers, fleet))
        else:
            for _ in range(gpus - 1):
                workers.start()
            workers.wait_until_ready()
        submitted = submit(farm, times)
        log.wait_for_end(list(submitted))
        measured = Outcome(paid_s=workers.paid_s(min(submitted.values()), time.time()))
        begun = log.times("generate")
        ended = log.times("mux")
    for job_id, at in submitted.items():
        measured.waits.append(begun[job_id][0] - at)
        measured.times.append(ended[job_id][-1] - at)
    start = min(submitted.values())
    predicted = Run(video, fleet).run([at - start for at in submitted.values()])
    return {
        "before the first chunk, alone": (video.prepare_s, video.prepare_s),
        "a chunk, alone": (video.chunk_s, video.chunk_s),
        "cold start": (fleet.cold_start_s, fleet.cold_start_s),
        **{name: (figure(predicted), figure(measured)) for name, figure in FIGURES.items()},
    }


def cold_start(workers: Workers) -> float:
    """Seconds from the start of a worker until it is ready, which leaves again."""
    begun = time.time()
    workers.start(FARM_IDLE_EXIT_S="1")
    workers.wait_until_ready()
    taken = time.time() - begun
    while workers.running:
        time.sleep(0.1)
    return taken


FIGURES: dict[str, Callable[[Outcome], float]] = {
    "jobs": lambda outcome: len(outcome.waits),
    "wait for the first chunk: mean": lambda outcome: mean(outcome.waits),
    "wait for the first chunk: p95": lambda outcome: quantile(outcome.waits, 0.95),
    "submission to end: mean": lambda outcome: mean(outcome.times),
    "submission to end: p95": lambda outcome: quantile(outcome.times, 0.95),
    "GPU seconds paid for": lambda outcome: outcome.paid_s,
}


def table(figures: Mapping[str, tuple[float, float]]) -> str:
    lines = [f"{'':36}{'predicted':>10}{'measured':>10}{'ratio':>8}"]
    for name, (predicted, measured) in figures.items():
        ratio = predicted / measured if measured else nan
        lines.append(f"{name:36}{predicted:10.2f}{measured:10.2f}{ratio:8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpus", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--load", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scaled", action="store_true")
    options = parser.parse_args()
    print(table(compare(**vars(options))))


if __name__ == "__main__":
    main()
