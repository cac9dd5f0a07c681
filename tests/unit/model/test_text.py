from __future__ import annotations

import pytest
import torch

from farm.model.pipeline import Pipeline
from farm.model.text import DEFAULT_NEGATIVE_PROMPT, clean_prompt


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("  a   man\n\ttalks ", "a man talks"),
        (
            "1 < 2 &amp;amp; 3",
            "1 < 2 & 3",
        ),  # where there is a "<", ftfy leaves entities alone
        ("schÃ¶n", "schön"),
        ("說話的人", "說話的人"),
    ],
)
def test_prompts_are_cleaned(prompt: str, expected: str) -> None:
    assert clean_prompt(prompt) == expected


def test_features_are_not_padded(pipeline: Pipeline) -> None:
    assert pipeline.encode_text("talk").shape == (
        5,
        64,
    )  # four bytes and the end mark


def test_prompts_with_the_same_meaning_after_cleaning_are_the_same(
    pipeline: Pipeline,
) -> None:
    assert torch.equal(pipeline.encode_text("he &amp; she"), pipeline.encode_text(" he & she "))


def test_different_prompts_have_different_features(pipeline: Pipeline) -> None:
    assert not torch.equal(pipeline.encode_text("a man"), pipeline.encode_text("a cat"))


def test_a_prompt_longer_than_the_model_reads_is_cut(pipeline: Pipeline) -> None:
    assert pipeline.encode_text("word " * 500).shape == (512, 64)


def test_the_standard_negative_prompt_is_encoded_whole(pipeline: Pipeline) -> None:
    assert (
        pipeline.encode_text(DEFAULT_NEGATIVE_PROMPT).shape[0] == len(DEFAULT_NEGATIVE_PROMPT) + 1
    )
