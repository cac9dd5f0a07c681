"""The outputs of steps: typed, frozen, and read back as they were written."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from farm.registry.formats import dump, load
from farm.registry.outputs import Committed, SegmentLinks, UsedParameters, chunks_of
from farm.route import STEP_KINDS
from tests.support.attempts import FIRST, attempt
from tests.support.outputs import (
    FACTORIES,
    chunk_output,
    committed,
    download_output,
    embed_output,
    mux_output,
)

USED = UsedParameters(
    sample_shift=7,
    negative_prompt="",
    quant="int8",
    offload_model=True,
    num_persistent_param_in_dit=0,
    skip_last_step=False,
    attention="native",
)


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_an_output_of_every_kind_is_read_as_it_was_written(kind):
    envelope = committed(
        FACTORIES[kind](),
        attempt_id=attempt(2),
        timings={"x_ms": 7},
        inputs={"embed": FIRST},
        digests={"jobs/a/mux/0002-0/video.mp4": "the SHA-256 of the video"},
    )
    text = dump(envelope)
    assert load(text, Committed, name="output.json") == envelope
    assert json.loads(text)["record"]["output"]["step"] == kind


@pytest.mark.parametrize(
    "output",
    [
        download_output(visual_kind="video", audio_keys=("first.wav", "second.wav")),
        embed_output(cuts=(25, 50), warnings=("ü",), aac_keys=()),
        chunk_output(tail_key="tail", condition_key="condition", used=USED),
        chunk_output(link="https://example.org/?signed=1&by=2"),
    ],
)
def test_every_field_is_read_as_it_was_written(output):
    envelope = committed(output)
    assert load(dump(envelope), Committed, name="output.json") == envelope


def test_only_the_output_of_embed_knows_the_number_of_chunks():
    assert chunks_of(None) is None
    assert chunks_of(committed(embed_output(chunks=3))) == 3
    with pytest.raises(TypeError, match="embed: got the output of mux"):
        chunks_of(committed(mux_output()))


def test_an_output_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        embed_output().chunks = 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunks": "3"}, "chunks\n  Input should be a valid integer"),
        ({"chunks": None}, "chunks\n  Input should be a valid integer"),
        ({"track": ()}, "track\n  Extra inputs are not permitted"),
    ],
)
def test_a_field_of_another_type_or_name_is_refused(changes, message):
    with pytest.raises(ValidationError) as caught:
        embed_output(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize("missing", ["output", "timings", "attempt_id", "inputs", "digests"])
def test_an_envelope_without_a_field_is_refused(missing):
    fields = json.loads(committed(mux_output()).model_dump_json())
    del fields[missing]
    with pytest.raises(ValidationError, match=f"{missing}\n  Field required"):
        Committed.model_validate_json(json.dumps(fields))


def test_the_links_of_a_segment_are_kept_as_they_were_made():
    output = chunk_output(link="signed:2", init_link="signed:1")
    assert output.links == SegmentLinks(init="signed:1", segment="signed:2")
