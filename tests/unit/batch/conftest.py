"""A batch of nine rows, and a worker that ends its jobs."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.batch.results import Outcome, open_results
from farm.batch.run import Batch, BatchSpec
from farm.client import Farm
from farm.errors import GenerationFailed
from farm.job import Result
from farm.settings import Settings

HEADER = "id,prompt,cond_video,cond_audio.person1"
LINE = "{},a woman talks,https://example.org/face.png,https://example.org/voice.wav"


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker))


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.batch.run.POLL_INTERVAL_S", 0.01)


class Worker:
    """Ends every live job, and records the most that were live at once."""

    def __init__(self, farm: Farm) -> None:
        self.registry = farm.context.registry
        self.most_live_jobs = 0
        self.fails: Callable[[str], bool] = lambda job_id: False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self.stopped.wait(0.02):
            live = self.registry.jobs.live()
            self.most_live_jobs = max(self.most_live_jobs, len(live))
            for job_id in live:
                if self.fails(job_id):
                    self.registry.jobs.fail(
                        job_id, GenerationFailed("no luck"), at_stage="chunk_0_pre"
                    )
                else:
                    self.registry.jobs.end(
                        job_id, "success", Result.model_validate(result_of(job_id))
                    )
                self.registry.jobs.close(job_id)


def result_of(job_id: str) -> dict[str, Any]:
    video = {
        "url": f"https://example.org/{job_id}.mp4",
        "bytes": 9,
        "thumbnail_url": "https://example.org/t.jpg",
    }
    timings = {"sampling_ms": 1500, "decode_ms": 400, "mux_ms": 90_000}
    return {
        "job_id": job_id,
        "status": "success",
        "video": video,
        "params": {"base_seed": 42},
        "warnings": ("it is cut off", "it is silent"),
        "timings": timings,
    }


@pytest.fixture
def worker(farm: Farm) -> Iterator[Worker]:
    worker = Worker(farm)
    worker.thread.start()
    yield worker
    worker.stopped.set()
    worker.thread.join()


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    lines = [HEADER, *(LINE.format(f"row{number}") for number in range(9))]
    (tmp_path / "jobs.csv").write_text("\n".join(lines))
    return BatchSpec(file=tmp_path / "jobs.csv", output=tmp_path / "results.csv", max_in_flight=3)


def run(farm: Farm, spec: BatchSpec, *, remake: bool = False) -> list[Outcome]:
    with open_results(spec.output, batch=spec.id) as results:
        return list(Batch(farm, spec, results, remake).run())


def read_lines(spec: BatchSpec) -> list[dict[str, str]]:
    with spec.output.open(newline="") as file:
        return list(csv.DictReader(file))
