from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from farm.model.checkpoints import load_tokenizer
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


PIECES = ["<pad>", "</s>", "<s>", "<unk>", "▁", "▁a", "▁man", "b", "说"]
"""Of UMT5's vocabulary, in its order: `<s>` comes before `<unk>`."""


@pytest.fixture(scope="module")
def published_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights with a tokenizer of UMT5's kind, under the class name it is published."""
    folder = tmp_path_factory.mktemp("weights")
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in PIECES], unk_id=3))
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(PIECES[:4])
    path = folder / "tokenizer"
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, **marks}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "prompt",
    ["a man", "a 🫨 man", "a 㐂", "a </s> b", "a ▁b", "<s> a", "说 a", ""],
)
def test_ids_are_those_of_the_published_tokenizer(published_tokenizer: Path, prompt: str) -> None:
    published = Tokenizer.from_file(str(published_tokenizer / "tokenizer" / "tokenizer.json"))
    tokenizer = load_tokenizer(published_tokenizer)
    assert tokenizer(prompt).input_ids == published.encode(prompt).ids


def test_characters_outside_the_vocabulary_are_unknown(published_tokenizer: Path) -> None:
    assert load_tokenizer(published_tokenizer)("🫨").input_ids == [4, 3, 1]
