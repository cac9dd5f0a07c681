"""The audio attention folded: the same numbers from a quarter of the products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from farm.model.block_attention import AudioAttention, fold_audio_attention
from farm.model.checkpoints import load_part
from farm.model.folding import attend_folded, fold
from farm.model.pipeline import Pipeline
from farm.model.quantise import quantisable_weights

HEADS, FRAMES, PIXELS = 4, 3, 6


@pytest.fixture
def attention() -> AudioAttention:
    torch.manual_seed(0)
    return AudioAttention(32, HEADS, 16)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@torch.inference_mode()
@pytest.mark.parametrize("sounds", ["speech", "silence"])
def test_folded_projections_change_nothing_but_the_rounding(
    attention: AudioAttention, sounds: str
) -> None:
    x, audio = drawn(1, FRAMES * PIXELS, 32), drawn(1, FRAMES, 5, 16)
    if sounds == "silence":
        audio[:, 2] = audio[:, 1]
    folded = fold(attention, audio)
    assert len(folded.keys) == (FRAMES if sounds == "speech" else 2)
    torch.testing.assert_close(
        attend_folded(x, folded, FRAMES, HEADS), attention(x, audio), rtol=0, atol=1e-5
    )


def test_projections_that_are_folded_stay_as_they_are_when_others_are_quantised(
    weights: Path,
) -> None:
    model = load_part(weights, "transformer", dtype="float32")
    quantised = quantisable_weights(model)
    fold_audio_attention(model, is_folded=True)
    kept = {
        f"blocks.{block}.attn_audio.{name}.weight"
        for block in range(2)
        for name in ("to_q", "to_out.0")
    }
    assert {*quantised} - {*quantisable_weights(model)} == kept


@pytest.mark.parametrize("speakers", [1, 2])
def test_a_chunk_comes_out_the_same(
    pipeline: Pipeline, make: Callable[..., tuple[Tensor, object]], voice: Tensor, speakers: int
) -> None:
    audio = torch.cat([voice[:, :13], voice[:, 4:]])[:speakers]
    plain = make(0, audio=audio)[0]
    fold_audio_attention(pipeline.transformer, is_folded=True)
    try:
        folded = make(0, audio=audio)[0]
    finally:
        fold_audio_attention(pipeline.transformer, is_folded=False)
    assert (folded - plain).norm() / plain.norm() < 1e-4
