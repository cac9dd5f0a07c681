"""What a farm makes of the fields that a request leaves to the model."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.job import JobRequest, resolve
from farm.presets import FLASHTALK, INFINITETALK, MINIATURE_FLASHTALK, PRESETS
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


def test_a_resolved_request_is_resolved_to_itself():
    request = resolved(sample_steps=2)
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
