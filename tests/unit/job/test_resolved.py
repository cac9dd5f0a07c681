"""What a farm makes of the fields that a request leaves to the model."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.job import JobRequest, resolve
from farm.job.request import MAX_FRAMES
from farm.presets import FLASHTALK, INFINITETALK, MINIATURE_FLASHTALK, PRESETS, QUALITIES
from tests.support.jobs import FIELDS

TWO_SPEAKERS = {
    "cond_audio": {"person1": "https://example.org/a.wav", "person2": "https://example.org/b.wav"},
    "audio_type": "para",
}


def resolved(model=FLASHTALK, **fields):
    return resolve(JobRequest.parse({**FIELDS, **fields}), model)


@pytest.mark.parametrize("model", PRESETS.values(), ids=PRESETS)
def test_open_fields_are_those_of_the_model(model):
    defaults = vars(model.defaults)
    request = resolved(model)
    assert {field: getattr(request, field) for field in defaults} == defaults
    assert request.model == model.name


def test_given_fields_stay():
    request = resolved(INFINITETALK, sample_steps=8, mode="streaming", base_seed=7)
    assert (request.sample_steps, request.mode, request.base_seed) == (8, "streaming", 7)
    assert request.frame_num == INFINITETALK.defaults.frame_num


@pytest.mark.parametrize("mode", [{}, {"mode": None}, {"mode": "auto"}])
@pytest.mark.parametrize("model", PRESETS.values(), ids=PRESETS)
def test_a_video_is_as_long_as_the_voice_unless_it_is_said(model, mode):
    assert resolved(model, **mode).max_frames == MAX_FRAMES
    assert resolved(model, **mode, max_frame_num=50).max_frames == 50


def test_streaming_has_its_limit_of_old():
    assert resolved(mode="streaming").max_frames == 1000
    assert resolved(mode="streaming", max_frame_num=MAX_FRAMES).max_frames == MAX_FRAMES


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("model", PRESETS.values(), ids=PRESETS)
def test_a_quality_fills_in_what_is_left_open(model, quality):
    request = resolved(model, quality=quality)
    fields = model.fields_of(quality)
    assert {name: getattr(request, name) for name in fields} == fields
    assert request.quant == {"draft": None, "fast": "auto", "best": "none"}[quality]


def test_without_a_quality_a_model_is_used_as_it_was_made():
    steps = {name: resolved(model).sample_steps for name, model in PRESETS.items()}
    assert steps == {
        "miniature": 4, "miniature-flashtalk": 4, "infinitetalk-480": 40, "flashtalk": 4,
    }  # fmt: skip
    assert {resolved(model).quant for model in PRESETS.values()} == {None}


@pytest.mark.parametrize("quality", QUALITIES)
def test_given_fields_win_over_the_quality(quality):
    given = {"sample_steps": 7, "use_teacache": False, "quant": "fp8"}
    given |= {"sample_text_guide_scale": 2.0, "sample_audio_guide_scale": 3.0}
    request = resolved(INFINITETALK, quality=quality, **given)
    assert {name: getattr(request, name) for name in given} == given


def test_a_voice_that_fits_is_not_cut():
    assert resolved(INFINITETALK, mode="clip").cut(81) == []
    assert resolved(INFINITETALK).cut(100_000) == []


def test_what_is_cut_is_said_with_its_cause():
    assert resolved(INFINITETALK, mode="clip").cut(224) == [
        "the voice lasts 8.96 s, the video ends after 3.24 s "
        "(mode clip makes one chunk; use mode auto for all of it)"
    ]
    assert resolved(INFINITETALK, max_frame_num=1000).cut(1875) == [
        "the voice lasts 75.00 s, the video ends after 40.00 s (limited by max_frame_num)"
    ]


def test_a_resolved_request_is_resolved_to_itself():
    for fields in ({"sample_steps": 2}, {"mode": "clip"}, {"quality": "fast"}):
        request = resolved(**fields)
        assert resolve(request, FLASHTALK) == request


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sample_steps": 8}, "sample_steps: got 8; the model .* few steps; allowed: 4 or 2"),
        ({"sample_text_guide_scale": 5.0}, r"sample_text_guide_scale: got 5\.0; .*allowed: 1"),
        ({"sample_audio_guide_scale": 4}, "sample_audio_guide_scale: got 4"),
        ({"negative_prompt": "blurred"}, 'negative_prompt: got "blurred"; .*allowed: null'),
        ({"use_teacache": True}, "use_teacache: got true; .*allowed: false"),
        ({"use_apg": True}, "use_apg: got true; .*allowed: false"),
        ({"lora": [{"name": "fast"}]}, r"lora: got .*fast.*allowed: \[\]"),
        (TWO_SPEAKERS, "speakers: got 2; the model .* one speaker; allowed: 1"),
        ({"size": "infinitetalk-480"}, "size: got 'infinitetalk-480'; the model .*flashtalk-448"),
    ],
)
@pytest.mark.parametrize("model", [FLASHTALK, MINIATURE_FLASHTALK], ids=lambda model: model.name)
def test_what_the_model_was_not_trained_for_is_refused(model, fields, message):
    with pytest.raises(InvalidInput, match=message):
        resolved(model, **fields)


def test_fields_that_agree_only_with_another_model_are_refused():
    with pytest.raises(InvalidInput, match="motion_frame: got 33; it must be smaller"):
        resolved(motion_frame=33)


def test_a_clip_is_one_chunk_without_its_lead_in():
    assert resolved(INFINITETALK, mode="clip").max_frames == 81
    assert resolved(FLASHTALK, mode="clip").max_frames == 28


def test_the_plan_begins_with_the_lead_in_of_the_model():
    assert resolved(INFINITETALK).plan(100).chunk(0).start == 0
    assert resolved(FLASHTALK).plan(100).chunk(0).start == -5
