"""Answers in GPUs, money and seconds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from farm.errors import InvalidInput
from farm.simulation.fleet import Fleet
from farm.simulation.plot import svg
from farm.simulation.run import Sample
from farm.simulation.scenario import GPUS, Scenario, answer, make_video, within_budget

H100 = GPUS["h100"]


def scenario(**changes: object) -> Scenario:
    video = make_video("infinitetalk-480", steps=8, size=None, seconds=30, gpu=H100, prepare_s=0)
    given = Scenario(
        "steady", per_hour=60, hours=4, video=video, gpu=H100, fleet=None, target_s=120
    )
    return replace(given, **changes)


def test_a_minute_of_video_has_the_gpu_seconds_of_the_estimate() -> None:
    """As in docs/runpod.md, for an H200."""
    for steps, gpu_s in ((40, 7516), (8, 1029), (4, 530)):
        video = make_video(
            "infinitetalk-480", steps=steps, size=None, seconds=60, gpu=GPUS["h200"], prepare_s=0
        )
        assert video.chunks * video.chunk_s == pytest.approx(gpu_s, rel=0.001)


def test_a_faster_gpu_takes_less_time() -> None:
    slow, fast = (
        make_video("flashtalk", steps=None, size=None, seconds=30, gpu=gpu, prepare_s=0)
        for gpu in (H100, replace(H100, speed=2 * H100.speed))
    )
    assert fast.chunk_s == pytest.approx(slow.chunk_s / 2)


def test_the_fewest_gpus_keep_the_wait_and_one_less_does_not() -> None:
    found = answer(scenario())
    fixed = Fleet(found.gpus, min_gpus=found.gpus)
    assert found.wait_p95_s <= 120
    assert answer(scenario(fleet=fixed)).wait_p95_s == found.wait_p95_s
    fewer = answer(scenario(fleet=replace(fixed, max_gpus=found.gpus - 1, min_gpus=found.gpus - 1)))
    assert fewer.wait_p95_s > 120 or fewer.gpu_hours > 4 * (found.gpus - 1) * 1.05


def test_no_backlog_grows_with_the_fewest_gpus() -> None:
    found = answer(scenario(target_s=3600))
    assert found.gpu_hours < 4 * found.gpus * 1.2


def test_the_cost_is_that_of_the_paid_seconds() -> None:
    found = answer(scenario())
    minutes = found.videos * 0.5
    assert found.cost_per_minute == pytest.approx(found.gpu_hours * 3600 * 0.00116 / minutes)


def test_a_budget_bounds_the_gpus() -> None:
    assert within_budget(Fleet(100), H100, 20.0).max_gpus == 4
    assert within_budget(Fleet(100), H100, None).max_gpus == 100


@pytest.mark.parametrize("least", [0, 5])
def test_a_budget_that_pays_for_too_few_is_refused(least: int) -> None:
    with pytest.raises(InvalidInput, match="budget: got 4 an hour, which pays for 0 GPUs"):
        within_budget(Fleet(100, min_gpus=least), H100, 4.0)


def test_what_the_model_does_not_make_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sample_steps"):
        make_video("flashtalk", steps=40, size=None, seconds=30, gpu=H100, prepare_s=0)


def test_a_plot_has_a_line_for_each_thing_that_is_drawn() -> None:
    samples = [Sample(at=15.0 * i, gpus=i, busy=i // 2, jobs=2 * i) for i in range(5000)]
    drawing = svg(samples, "title")
    lines = re.findall(r'<polyline points="([^"]+)"', drawing)
    assert len(lines) == 3
    assert all(len(line.split()) < 1300 for line in lines)
    assert lines[0].endswith("840.0,60.0") or lines[0].split()[-1].startswith("8")
