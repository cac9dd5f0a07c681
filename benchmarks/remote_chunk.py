"""What a chunk takes through a bridge and a handler, and on a gpu worker of the farm's own.

    python -m benchmarks.remote_chunk [--jobs 5]

Both make the same jobs, by turns: the miniature at 32 x 32 pixels, of which the parts that are not
the model's show. Endpoint and S3 service are on the loopback.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from farm import Job
from tests.chaos.outcome import WorkerLogs
from tests.chaos.run import job_fields
from tests.support.rented_farm import RentedFarm, rented_farm
from tests.support.runpod import RemoteJob
from tests.support.swift import Swift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5, help="jobs of each kind (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "farm"
        swift = Swift(Path(folder) / "swift")
        try:
            with rented_farm(home, swift) as farm:
                compare(farm, job_fields(Path(folder)), options.jobs)
        finally:
            swift.stop()


def compare(farm: RentedFarm, fields: dict[str, Any], jobs: int) -> None:
    """Prints the medians of both ways, and the parts of the remote one."""
    farm.start_bridge()
    farm.start_handler()
    run(farm, fields)  # the first one of each kind warms up
    remote = [run(farm, fields) for _ in range(jobs)]
    outside = farm.remote_jobs[-sum(len(farm.outputs(job)) for job in remote) :]
    with farm.gpu_worker():
        run(farm, {**fields, "placement": "local"})
        own = [run(farm, {**fields, "placement": "local"}) for _ in range(jobs)]
    times = WorkerLogs(farm.settings.folder, "*.log")
    print(f"milliseconds a chunk, medians of {jobs} jobs")
    print(f"  own gpu worker     {median(seconds_of(times, own)) * 1000:7.0f}")
    print(f"  bridge and handler {median(seconds_of(times, remote)) * 1000:7.0f}, of which")
    print(f"    in Runpod's queue  {median(map(queued_s, outside)) * 1000:7.0f}")
    print(f"    in the handler     {median(map(handled_s, outside)) * 1000:7.0f}, of which")
    timings = [each.timings for job in remote for each in farm.outputs(job)]
    print(f"      with the GPU       {median(each['remote_ms'] for each in timings):7.0f}")


def run(farm: RentedFarm, fields: dict[str, Any]) -> Job:
    job = farm.farm.submit(fields)
    job.result(300)
    return job


def seconds_of(logs: WorkerLogs, jobs: list[Job]) -> Iterator[float]:
    """From one commit of a chunk to the next one, within each job."""
    for job in jobs:
        commits = logs.times("step_committed", job_id=job.id, kind="generate")
        yield from (later - earlier for earlier, later in pairwise(commits))


def queued_s(job: RemoteJob) -> float:
    return (job.started_at or job.submitted_at) - job.submitted_at


def handled_s(job: RemoteJob) -> float:
    return (job.ended_at or 0.0) - (job.started_at or 0.0)


if __name__ == "__main__":
    main()
