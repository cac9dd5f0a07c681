"""The benchmarks of the farm run; their figures are for people to read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import gateway, idle, load, simulated
from benchmarks.chain import Cost, measure, table
from benchmarks.long_video import REQUEST, broker_megabytes, chunk_seconds, watch, write_voice
from farm import Farm
from farm.local.supervisor import open_supervisor
from farm.settings import Settings


def test_a_few_jobs_of_each_kind_have_their_figures(tmp_path: Path) -> None:
    # Given workers whose steps do nothing
    settings = Settings(home=tmp_path)
    with open_supervisor(settings, application="benchmarks.noop") as supervisor:
        costs = measure(supervisor, jobs=3, rounds=1)
    figures = {name: cost.figures() for name, cost in costs.items()}
    # Then every job of both kinds was timed, and the farm needs more requests than a bare chain
    assert [len(cost.single_ms) for cost in costs.values()] == [3, 3]
    assert [len(cost.burst_ms) for cost in costs.values()] == [3, 3]
    assert all(min(each.values()) >= 0 for each in figures.values())
    requests = "a job's requests to the broker"
    assert figures["the farm"][requests] > figures["bare chain"][requests] > 0
    assert requests in table(costs)


def test_cpu_time_below_the_resolution_of_the_system_has_no_ratio() -> None:
    def cost(cpu_ms: float) -> Cost:
        spent = {"CPU ms": cpu_ms}
        return Cost(jobs_per_s=[1.0], spent=[spent], single_ms=[1.0], burst_ms=[1.0])

    costs = {"the farm": cost(10.0), "bare chain": cost(0.0)}

    assert table(costs).splitlines()[-1].split() == [
        "a",
        "job's",
        "CPU",
        "ms",
        "10.0",
        "0.0",
        "nan",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports peaks")
def test_a_video_of_three_chunks_has_peaks_before_and_after_the_first(tmp_path: Path) -> None:
    # Given a farm that draws thumbnails, and nine seconds of speech
    settings = Settings(home=tmp_path, cpu_concurrency=1)
    with open_supervisor(settings, application="benchmarks.thumbnail") as supervisor:
        voices = {"person1": str(write_voice(tmp_path, minutes=0.1))}
        farm = Farm(settings=supervisor.settings)
        job = farm.submit(REQUEST, cond_audio=voices, max_frame_num=200)
        peaks = watch(supervisor, job)
        assert len(chunk_seconds(job)) == 3
        assert broker_megabytes(supervisor)["in all"] > broker_megabytes(supervisor)["events"] > 0
    # Then every process that lives as long as the farm is in the table
    lasting = {
        "broker",
        "farm up",
        "cpu worker",
        "cpu worker: python",
        "gpu worker",
        "gpu worker: python",
    }
    assert lasting <= peaks.before.keys() & peaks.after.keys()
    assert peaks.table().count("\n") >= len(lasting)


def test_a_few_requests_that_wait_have_their_figures(tmp_path: Path) -> None:
    options = gateway.parse(["--waits", "6", "--rate", "20", "--seconds", "1", "--jobs", "3"])

    figures = gateway.run(tmp_path, options)

    assert (len(figures.status_ms), len(figures.answered_ms)) == (20, 6)
    assert figures.threads < 40
    assert "gateway: CPU" in figures.table()


def test_a_few_jobs_of_a_real_farm_are_beside_those_of_the_simulation() -> None:
    figures = simulated.compare(gpus=2, jobs=4, load=0.5, chunk_s=0.1)
    predicted, measured = figures["jobs"]
    assert predicted == measured > 0
    assert "wait for the first chunk: p95" in simulated.table(figures)


def test_waiting_jobs_have_their_cost() -> None:
    (row,) = load.waiting([5])
    assert row["broker, kB a job"] > 0
    assert row["ms of a scrape"] > 0


def test_the_parts_between_two_chunks_are_timed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(idle.THUMBNAILS, "1")
    # Given one job of three chunks
    spans = idle.run(Settings(home=tmp_path), jobs=1, chunks=3, steps=1)
    # Then there are two gaps, in which the model computed nothing
    found = idle.gaps(spans)
    assert len(found) == 2
    parts = {"acquire", "inputs", "encode", "mux", "store", "commit", "acknowledge, next message"}
    for gap in found:
        assert parts <= gap.keys()
        assert gap["in all"] >= max(gap["commit"], gap["acknowledge, next message"]) > 0
    # And the table reckons the share of a GPU's time
    assert "idle, of a chunk of 12 s" in idle.table(found, idle.at_full_size(tmp_path))
