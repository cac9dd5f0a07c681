"""What a job takes, in GPU seconds, time and money, and in words."""

from __future__ import annotations

from typing import Any

import pytest

from farm.errors import InvalidInput
from farm.estimate import Estimate, Load, Pace, check_cost, chunk_s, estimate, in_words, money
from tests.support.jobs import job_request

TWO = {
    "cond_audio": {
        "person1": "https://example.org/first.wav",
        "person2": "https://example.org/second.wav",
    },
    "audio_type": "para",
}
REQUEST = job_request(
    mode="streaming",
    sample_steps=4,
    sample_text_guide_scale=1.0,
    sample_audio_guide_scale=1.0,
)
CHUNK_S = 4 * 2.97 + 1.5


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 40 * 3 * 2.97 + 1.5),
        ({"sample_steps": 8}, 8 * 3 * 2.97 + 1.5),
        ({"sample_text_guide_scale": 1.0}, 40 * 2 * 2.97 + 1.5),
        (
            {"sample_text_guide_scale": 1.0, "sample_audio_guide_scale": 1.0},
            40 * 2.97 + 1.5,
        ),
        ({"size": "infinitetalk-720"}, 40 * 3 * 9.98 + 3.4),
        (TWO, 40 * 3 * 3.04 + 1.5),
        ({**TWO, "size": "infinitetalk-720"}, 40 * 3 * 10.2 + 3.4),
        ({"frame_num": 41}, (40 * 3 * 2.97 + 1.5) * 41 / 81),
        ({"quality": "draft"}, 4 * 2.97 + 1.5),
        ({"quality": "fast"}, 12 * 3 * 0.81 * 2.97 + 1.5),
        ({"quality": "best"}, 40 * 3 * 2.97 + 1.5),
        ({"quant": "fp8"}, 40 * 3 * 0.78 * 2.97 + 1.5),
        ({"quant": "int8"}, 40 * 3 * 0.81 * 2.97 + 1.5),
    ],
)
def test_a_chunk_takes_its_model_passes_and_its_decoding(fields, seconds):
    request = job_request(model="infinitetalk-480", **fields)
    assert chunk_s(request) == pytest.approx(seconds)


@pytest.mark.parametrize("on_cpu", [False, True])
def test_a_pace_is_read_as_it_was_stored(on_cpu):
    measured = Pace(0.5, cards=2, is_measured=True, on_cpu=on_cpu)
    assert Pace.parse(measured.text) == measured
    assert Pace.parse(None) == Pace()


def of_three_chunks(**options: Any) -> Estimate:
    given = {"pace": Pace(), "price_per_h": 36.0, **options}
    return estimate(REQUEST, REQUEST.plan(200), **given)


def test_a_job_costs_its_chunks_at_the_pace_of_the_farm_and_all_its_cards():
    found = of_three_chunks(pace=Pace(0.5, cards=2, is_measured=True))
    assert (found.frames, found.chunks) == (200, 3)
    assert found.gpu_s == pytest.approx(3 * CHUNK_S)
    assert found.cost == pytest.approx(3 * CHUNK_S / 100)
    assert of_three_chunks(price_per_h=None).cost is None


@pytest.mark.parametrize(
    ("load", "turns"),
    [(Load(jobs=0, workers=2), 1), (Load(jobs=1, workers=2), 1), (Load(jobs=5, workers=2), 3)],
)
def test_jobs_take_turns_at_the_workers_so_each_waits_for_the_others(load, turns):
    found = of_three_chunks(load=load)
    assert found.wait_s == pytest.approx((turns - 1) * CHUNK_S)
    assert found.time_s == pytest.approx(turns * 3 * CHUNK_S)


@pytest.mark.parametrize("load", [None, Load(jobs=1, workers=0)])
def test_without_a_worker_no_time_is_promised(load):
    found = of_three_chunks(load=load)
    assert (found.wait_s, found.time_s) == (None, None)


def test_an_estimate_is_a_sentence():
    own = Pace(1.0, is_measured=True)
    assert str(of_three_chunks(pace=own, load=Load(jobs=5, workers=2))) == (
        "8.0 s of video (200 frames, 3 chunks); about 40 GPU seconds at this farm's pace; "
        "cost about 0.4; begins in about 27 s, ready in about 2 min"
    )
    assert str(of_three_chunks(price_per_h=None, length="from the text")) == (
        "about 8.0 s of video, by the characters of the text (200 frames, 3 chunks); "
        "about 40 GPU seconds at the pace of one H200, as measured on 2026-11-30"
    )
    cpu = Pace(9.0, is_measured=True, on_cpu=True)
    on_cpu = str(of_three_chunks(pace=cpu))
    assert "; about 361 seconds on the CPU at this farm's pace; cost " in on_cpu
    assert str(Estimate()) == "unknown until the length of the voice is known"


def test_a_job_beyond_what_its_caller_pays_is_refused_with_estimate_and_limit():
    found = of_three_chunks()
    check_cost(job_request(max_cost=0.41), found)
    check_cost(job_request(), found)
    with pytest.raises(InvalidInput, match=r"max_cost: got 0.4; the estimate is .*cost about 0.4"):
        check_cost(job_request(max_cost=0.4), found)
    with pytest.raises(InvalidInput, match="max_cost: got 0; "):
        check_cost(job_request(max_cost=0.0), found)


def test_a_guessed_length_refuses_no_job():
    check_cost(job_request(max_cost=0.01), of_three_chunks(length="from the text"))


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (0.0123, "0.012"), (1.234, "1.23"), (12345.6, "12,345.60")]
)
def test_money_has_two_digits(amount, text):
    assert money(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (5400, "1.5 h")]
)
def test_durations_are_said_as_people_do(seconds, text):
    assert in_words(seconds) == text
