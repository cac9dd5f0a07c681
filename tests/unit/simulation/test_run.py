"""The simulation against results of queueing theory, and against what can be reckoned by hand."""

from __future__ import annotations

from math import factorial, sqrt
from statistics import mean

import pytest

from farm.simulation.arrivals import PATTERNS, Pattern, arrivals
from farm.simulation.fleet import Fleet, Video
from farm.simulation.run import Run

HOUR = 3600.0


def one_chunk(seconds: float) -> Video:
    return Video(chunks=1, chunk_s=seconds, seconds=3)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_gpu_waits_as_an_m_d_1_queue(load: float) -> None:
    times = arrivals("steady", per_hour=load * HOUR / 10, hours=300)
    outcome = Run(one_chunk(10), Fleet(1, min_gpus=1)).run(times)
    assert mean(outcome.waits) == pytest.approx(load * 10 / (2 * (1 - load)), rel=0.05)


def test_four_gpus_wait_as_an_m_d_4_queue() -> None:
    load, servers, service = 0.8, 4, 10.0
    times = arrivals("steady", per_hour=load * servers * HOUR / service, hours=100)
    outcome = Run(one_chunk(service), Fleet(servers, min_gpus=servers)).run(times)
    # Erlang's formula for exponential times, and Cosmetatos' correction for constant ones
    offered = load * servers
    last = offered**servers / factorial(servers) / (1 - load)
    waiting = last / (sum(offered**k / factorial(k) for k in range(servers)) + last)
    exponential = waiting * service / (servers * (1 - load))
    spread = (1 - load) * (servers - 1) * (sqrt(4 + 5 * servers) - 2) / (16 * load * servers)
    assert mean(outcome.waits) == pytest.approx(exponential / 2 * (1 + spread), rel=0.05)


def test_the_chunks_of_two_jobs_take_turns_on_one_gpu() -> None:
    outcome = Run(Video(chunks=3, chunk_s=10, seconds=9), Fleet(1, min_gpus=1)).run([0.0, 1.0])
    assert outcome.waits == [0.0, 9.0]
    assert outcome.times == [50.0, 59.0]  # ABABAB


def test_a_job_uses_one_gpu_at_a_time() -> None:
    outcome = Run(Video(chunks=4, chunk_s=10, seconds=12), Fleet(8, min_gpus=8)).run([0.0])
    assert outcome.times == [40.0]
    assert outcome.idle_share == pytest.approx(1 - 1 / 8)


def test_the_first_job_waits_for_the_autoscaler_and_the_cold_start() -> None:
    fleet = Fleet(4, cold_start_s=100, idle_exit_s=50, poll_s=15)
    outcome = Run(one_chunk(10), fleet).run([1.0])
    assert outcome.waits == [14.0 + 100.0]
    assert outcome.paid_s == 110.0


def test_a_worker_leaves_when_it_has_been_idle_for_long_enough_and_is_paid_until_then() -> None:
    fleet = Fleet(1, cold_start_s=0, idle_exit_s=50, poll_s=10)
    outcome = Run(one_chunk(10), fleet).run([0.0, 1000.0])
    # 10 s of work and 50 idle, twice; the second run ends with its job
    assert outcome.paid_s == pytest.approx(10 + 10 + 50 + 10, abs=10)
    assert max(sample.gpus for sample in outcome.samples if 100 < sample.at < 1000) == 0


def test_no_more_gpus_come_than_the_work_that_is_left_is_worth() -> None:
    times = [0.0] * 10
    one_each = Run(one_chunk(60), Fleet(100)).run(times)
    capped = Run(one_chunk(60), Fleet(100, target_s=300)).run(times)
    assert one_each.peak_gpus == 10
    assert capped.peak_gpus == 2


def test_a_lost_node_costs_its_chunk_and_no_job() -> None:
    times = arrivals("steady", per_hour=60, hours=20)
    fleet = Fleet(10, cold_start_s=60, idle_exit_s=120, losses_per_hour=2.0)
    outcome = Run(Video(chunks=5, chunk_s=100, seconds=14), fleet).run(times)
    assert outcome.lost_chunks > 10
    assert len(outcome.times) == len(times) == len(outcome.waits)
    assert outcome.busy_s == pytest.approx(len(times) * 500)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_as_many_videos_come_as_are_asked_for(pattern: Pattern) -> None:
    times = arrivals(pattern, per_hour=1000, hours=24)
    assert len(times) == pytest.approx(24_000, rel=0.03)
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 24 * HOUR


def test_the_evening_has_nine_times_as_many_as_the_morning() -> None:
    times = arrivals("evening", per_hour=1000, hours=24)
    evening = sum(19.5 <= at / HOUR < 20.5 for at in times)
    morning = sum(7.5 <= at / HOUR < 8.5 for at in times)
    assert evening / morning == pytest.approx(9, rel=0.3)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    first, same, other = (arrivals("steady", per_hour=60, hours=5, seed=seed) for seed in (1, 1, 2))
    assert first == same != other
