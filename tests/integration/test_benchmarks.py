"""The benches of the farm run; their figures are for people to read."""

from __future__ import annotations

import sys

import pytest

from benchmarks.chain import Cost, measured, table
from benchmarks.hour import REQUEST, chunk_seconds, kept, voice, watched
from farm import Farm
from farm.local.supervisor import open_supervisor
from farm.settings import Settings


def test_a_few_jobs_of_each_kind_have_their_figures(tmp_path):
    # Given workers that have nothing to do
    with open_supervisor(Settings(home=tmp_path), application="benchmarks.hollow") as supervisor:
        costs = measured(supervisor, jobs=3, rounds=1)
    figures = {name: cost.figures() for name, cost in costs.items()}
    # Then every job of both kinds was timed, and the farm asks its broker more than a bare chain does
    assert [(len(cost.alone_ms), len(cost.burst_ms)) for cost in costs.values()] == [(3, 3), (3, 3)]
    assert all(min(each.values()) >= 0 for each in figures.values())
    trips = "a job's round trips to the broker"
    assert figures["the farm"][trips] > figures["bare chain"][trips] > 0
    assert trips in table(costs)


def test_what_took_less_than_the_system_counts_has_no_ratio():
    costs = {
        name: Cost(jobs_per_s=[1.0], spent=[{"CPU ms": spent}], alone_ms=[1.0], burst_ms=[1.0])
        for name, spent in {"the farm": 10.0, "bare chain": 0.0}.items()
    }
    assert table(costs).splitlines()[-1].split() == ["a", "job's", "CPU", "ms", "10.0", "0.0", "nan"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell peaks")
def test_a_video_of_three_chunks_has_a_peak_for_each_process_before_and_after_the_first(tmp_path):
    # Given a farm that draws thumbnails, and nine seconds of speech
    with open_supervisor(Settings(home=tmp_path), application="benchmarks.thumbnail") as supervisor:
        sound = {"person1": str(voice(tmp_path, minutes=0.1))}
        job = Farm(settings=supervisor.settings).submit(REQUEST, cond_audio=sound, max_frame_num=200)
        peaks = watched(supervisor, job)
        assert len(chunk_seconds(job)) == 3
        assert kept(supervisor)["in all"] > kept(supervisor)["events"] > 0
    # Then every process that lives as long as the farm is in the table
    lasting = {"broker", "farm up, with beat", "cpu worker", "cpu worker: python", "gpu worker", "gpu worker: python"}
    assert lasting <= peaks.before.keys() & peaks.after.keys()
    assert peaks.table().count("\n") >= len(lasting)
