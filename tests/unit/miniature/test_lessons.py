"""Training gives the transformer what a job gives it: images, motion frames, audio."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from farm.model.audio import load_audio_encoder
from farm.model.checkpoints import load_part
from farm.model.image import ImageEncoder
from farm.model.parts import build
from farm.model.vae import VideoAutoencoder
from farm.presets import MINIATURE
from miniature.lessons import BatchBuilder, TrainingBatch, _latent_weights, concatenate
from miniature.studio import Studio
from miniature.transformer import _losses, _RegionLoss
from miniature.voices import Voices

SHIPPED = MINIATURE.folder(Path())
BATCH = 2
SIZE = (32, 48)


@pytest.fixture(scope="module")
def builder(stored: Path) -> BatchBuilder:
    return BatchBuilder(
        Studio(Voices(stored)),
        load_audio_encoder(SHIPPED).model,
        ImageEncoder(load_part(SHIPPED, "image_encoder", dtype="float32")),
        VideoAutoencoder(load_part(SHIPPED, "vae", dtype="float32"), latents_per_call=20),
    )


def built(builder: BatchBuilder, seed: int, speakers: int = 1) -> TrainingBatch:
    return builder.build(torch.Generator().manual_seed(seed), BATCH, speakers, SIZE)


@pytest.fixture(scope="module")
def from_start(builder: BatchBuilder) -> TrainingBatch:
    return next(each for seed in range(9) if (each := built(builder, seed)).known[0] == 1)


@pytest.fixture(scope="module")
def from_middle(builder: BatchBuilder) -> TrainingBatch:
    return next(
        each for seed in range(9) if (each := built(builder, seed, speakers=2)).known[0] == 3
    )


def test_a_clip_that_begins_a_video_begins_with_its_picture(
    from_start: TrainingBatch,
) -> None:
    assert from_start.latents.shape == (BATCH, 16, 21, 4, 6)
    assert from_start.condition.shape == (BATCH, 20, 21, 4, 6)
    assert from_start.rows.shape == (BATCH, 1, 85, 3, 64)
    assert from_start.condition[:, :4].sum() == BATCH * 4 * 4 * 6
    torch.testing.assert_close(from_start.condition[:, 4:, 0], from_start.latents[:, :, 0])
    assert from_start.motion[:, :, 0].equal(from_start.latents[:, :, 0])


def test_a_clip_from_the_middle_goes_on_from_three_latents_and_has_another_picture(
    from_middle: TrainingBatch,
) -> None:
    assert from_middle.rows.shape[1] == 2
    assert from_middle.motion.shape == (BATCH, 16, 3, 4, 6)
    assert not from_middle.condition[:, 4:, 0].equal(from_middle.latents[:, :, 0])


def test_mouths_that_move_little_count_more(
    from_start: TrainingBatch, builder: BatchBuilder
) -> None:
    clips = Studio(builder.studio.voices).clips(
        torch.Generator().manual_seed(0), BATCH, 1, 81, SIZE
    )
    lively, quiet = (_latent_weights(clips, by * from_start.latents.float()) for by in (1.0, 0.5))
    mouths = lively != quiet
    assert 0 < mouths.sum() < mouths.numel() / 2
    assert (quiet > lively)[mouths].all()
    assert (quiet < 4 * lively)[mouths].all()
    # and what moves elsewhere is all the same
    elsewhere = torch.where(mouths, 1.0, 9.0) * from_start.latents.float()
    assert _latent_weights(clips, elsewhere).equal(lively)


def test_a_seed_gives_the_same_batch(builder: BatchBuilder) -> None:
    one = built(builder, 3)
    same = built(builder, 3)
    assert all(
        getattr(one, each.name).equal(getattr(same, each.name)) for each in fields(TrainingBatch)
    )


def test_clips_that_are_not_heard_are_silent(
    from_start: TrainingBatch, from_middle: TrainingBatch
) -> None:
    first, later = from_start.audio(torch.tensor([True, False]))
    assert first[0].any()
    assert later[0].any()
    assert not first[1].any()
    assert not later[1].any()
    assert from_middle.silenced().rows.shape == (BATCH, 1, 85, 3, 64)
    assert not from_middle.silenced().rows.any()


def test_batches_are_concatenated_and_selected_by_index(from_start: TrainingBatch) -> None:
    twice = concatenate([from_start, replace(from_start, latents=-from_start.latents)])
    assert twice.select(torch.tensor([BATCH])).latents.equal(-from_start.latents[:1])


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return build("transformer", {**MINIATURE.parts["transformer"], "num_layers": 2})


def loss(model: Any, lessons: TrainingBatch) -> dict[str, Tensor]:
    text = torch.zeros(BATCH, 8, MINIATURE.parts["transformer"]["text_dim"])
    region_loss = _RegionLoss(model)
    region_loss.start(lessons)
    return dict(_losses(model, lessons, text, torch.Generator().manual_seed(0), region_loss))


@torch.no_grad()
def test_known_latents_are_not_in_the_loss(model: Any, from_start: TrainingBatch) -> None:
    def changed(latent: int) -> Tensor:
        latents = from_start.latents.clone()
        latents[:, :, latent] += 3
        return loss(model, replace(from_start, latents=latents))["flow"]

    expected = loss(model, from_start)["flow"]
    assert changed(0) == expected
    assert changed(1) > 1.05 * expected


def test_the_region_loss_is_for_two_speakers_only(
    model: Any, from_start: TrainingBatch, from_middle: TrainingBatch
) -> None:
    assert loss(model, from_start)["regions"] == 0
    built = loss(model, from_middle)["regions"]
    built.backward()
    assert built > 0
    assert model.blocks[0].attn1.to_q.weight.grad.abs().sum() > 0
