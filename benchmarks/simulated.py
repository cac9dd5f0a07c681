"""Waits in a small real farm, against those that `farm simulate` predicts for the same submissions.

    python -m benchmarks.simulated [--gpus 3] [--jobs 100] [--load 0.8] [--seed 0]

Real are the broker, the registry, the messages and the workers; a chunk sleeps instead of computing
(`benchmarks.paced`). Two things of the simulation are measured first, with jobs that run alone: the
seconds before the first chunk, and those of a chunk with the farm's share in it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from benchmarks.chain import REQUEST, timestamps_path
from farm import Farm
from farm.local.process import spawn, stop
from farm.local.supervisor import open_supervisor
from farm.local.worker import worker_command, worker_environ
from farm.registry import farm_registry
from farm.settings import Settings
from farm.simulation.arrivals import arrivals
from farm.simulation.fleet import Fleet, Video
from farm.simulation.run import Run
from farm.simulation.scenario import quantile

APPLICATION = "benchmarks.paced"
CHUNKS = 3
CHUNK_S = 2.0

CALIBRATING = 3
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


@contextmanager
def gpu_workers(settings: Settings, number: int) -> Iterator[None]:
    """So many more than the supervisor's."""
    ours = {"FARM_HOME": str(settings.folder), "FARM_BROKER_URL": settings.broker_address}
    workers = []
    for each in range(number):
        command = worker_command("gpu", settings, application=APPLICATION)
        command[command.index("--hostname") + 1] = f"gpu-{each}@%h"
        log = settings.folder / "logs" / f"gpu-{each}.log"
        workers.append(spawn(command, log=log, environ=worker_environ({**os.environ, **ours})))
    try:
        registry = farm_registry(settings)
        while registry.workers.count_alive()["gpu"] < number + 1:
            if any(worker.poll() is not None for worker in workers):
                raise RuntimeError(f"a gpu worker ended: {settings.folder / 'logs'}")
            time.sleep(0.1)
        yield
    finally:
        stop(workers, grace_s=settings.grace_s)


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
    *, gpus: int, jobs: int, load: float, seed: int = 0, chunk_s: float = CHUNK_S
) -> dict[str, tuple[float, float]]:
    """Each figure as predicted and as measured, in seconds."""
    per_hour = load * gpus * 3600 / (CHUNKS * chunk_s)
    times = arrivals("steady", per_hour=per_hour, hours=jobs / per_hour, seed=seed)
    with (
        pace(CHUNKS, chunk_s),
        tempfile.TemporaryDirectory(prefix="farm-benchmarks-") as home,
        open_supervisor(Settings(home=Path(home)), application=APPLICATION) as supervisor,
        gpu_workers(supervisor.settings, gpus - 1),
    ):
        farm = Farm(settings=supervisor.settings)
        log = Log(supervisor.settings)
        video = calibrate(farm, log)
        submitted = submit(farm, times)
        log.wait_for_end(list(submitted))
        begun = log.times("generate")
        ended = log.times("mux")
    start = min(submitted.values())
    actual = [at - start for at in submitted.values()]
    predicted = Run(video, Fleet(gpus, min_gpus=gpus)).run(actual)
    waits = [begun[job_id][0] - at for job_id, at in submitted.items()]
    whole = [ended[job_id][-1] - at for job_id, at in submitted.items()]
    return {
        "jobs": (len(predicted.waits), len(waits)),
        "before the first chunk, alone": (video.prepare_s, video.prepare_s),
        "a chunk, alone": (video.chunk_s, video.chunk_s),
        "wait for the first chunk: mean": (mean(predicted.waits), mean(waits)),
        "wait for the first chunk: p95": (quantile(predicted.waits, 0.95), quantile(waits, 0.95)),
        "submission to end: mean": (mean(predicted.times), mean(whole)),
        "submission to end: p95": (quantile(predicted.times, 0.95), quantile(whole, 0.95)),
    }


def table(figures: Mapping[str, tuple[float, float]]) -> str:
    lines = [f"{'':36}{'predicted':>10}{'measured':>10}{'ratio':>8}"]
    for name, (predicted, measured) in figures.items():
        lines.append(f"{name:36}{predicted:10.2f}{measured:10.2f}{predicted / measured:8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpus", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--load", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(table(compare(**vars(options))))


if __name__ == "__main__":
    main()
