"""What the transformer is taught is what it will be given: the pictures, the motion frames, the sound."""

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
from farm.model.presets import MINIATURE
from farm.model.vae import VideoAutoencoder
from miniature.lessons import Lessons, Teacher, _on_latents, joined
from miniature.studio import Studio
from miniature.transformer import _Gaze, _losses
from miniature.voices import Voices

SHIPPED = MINIATURE.folder(Path())
BATCH = 2
SIZE = (32, 48)


@pytest.fixture(scope="module")
def teacher(stored: Path) -> Teacher:
    return Teacher(
        Studio(Voices(stored)),
        load_audio_encoder(SHIPPED).model,
        ImageEncoder(load_part(SHIPPED, "image_encoder", dtype="float32")),
        VideoAutoencoder(load_part(SHIPPED, "vae", dtype="float32"), latents_per_call=20),
    )


def taught(teacher: Teacher, seed: int, speakers: int = 1) -> Lessons:
    return teacher.lessons(torch.Generator().manual_seed(seed), BATCH, speakers, SIZE)


@pytest.fixture(scope="module")
def beginning(teacher: Teacher) -> Lessons:
    return next(each for seed in range(9) if (each := taught(teacher, seed)).known[0] == 1)


@pytest.fixture(scope="module")
def middle(teacher: Teacher) -> Lessons:
    return next(
        each for seed in range(9) if (each := taught(teacher, seed, speakers=2)).known[0] == 3
    )


def test_a_clip_that_begins_a_video_begins_with_its_picture(
    beginning: Lessons,
) -> None:
    assert beginning.latents.shape == (BATCH, 16, 21, 4, 6)
    assert beginning.condition.shape == (BATCH, 20, 21, 4, 6)
    assert beginning.rows.shape == (BATCH, 1, 85, 3, 64)
    assert beginning.condition[:, :4].sum() == BATCH * 4 * 4 * 6
    torch.testing.assert_close(beginning.condition[:, 4:, 0], beginning.latents[:, :, 0])
    assert beginning.motion[:, :, 0].equal(beginning.latents[:, :, 0])


def test_a_clip_from_the_middle_goes_on_from_three_latents_and_has_another_picture(
    middle: Lessons,
) -> None:
    assert middle.rows.shape[1] == 2
    assert middle.motion.shape == (BATCH, 16, 3, 4, 6)
    assert not middle.condition[:, 4:, 0].equal(middle.latents[:, :, 0])


def test_mouths_that_move_little_count_more(beginning: Lessons, teacher: Teacher) -> None:
    clips = Studio(teacher.studio.voices).clips(
        torch.Generator().manual_seed(0), BATCH, 1, 81, SIZE
    )
    lively, quiet = (_on_latents(clips, by * beginning.latents.float()) for by in (1.0, 0.5))
    mouths = lively != quiet
    assert 0 < mouths.sum() < mouths.numel() / 2
    assert (quiet > lively)[mouths].all()
    assert (quiet < 4 * lively)[mouths].all()
    # and what moves elsewhere is all the same
    elsewhere = torch.where(mouths, 1.0, 9.0) * beginning.latents.float()
    assert _on_latents(clips, elsewhere).equal(lively)


def test_a_seed_teaches_the_same_again(teacher: Teacher) -> None:
    one = taught(teacher, 3)
    same = taught(teacher, 3)
    assert all(getattr(one, each.name).equal(getattr(same, each.name)) for each in fields(Lessons))


def test_who_is_not_heard_says_nothing(beginning: Lessons, middle: Lessons) -> None:
    first, later = beginning.audio(torch.tensor([True, False]))
    assert first[0].any()
    assert later[0].any()
    assert not first[1].any()
    assert not later[1].any()
    assert middle.unheard().rows.shape == (BATCH, 1, 85, 3, 64)
    assert not middle.unheard().rows.any()


def test_lessons_are_joined_and_chosen_by_their_number(beginning: Lessons) -> None:
    twice = joined([beginning, replace(beginning, latents=-beginning.latents)])
    assert twice.some(torch.tensor([BATCH])).latents.equal(-beginning.latents[:1])


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return build("transformer", {**MINIATURE.parts["transformer"], "num_layers": 2})


def loss(model: Any, lessons: Lessons) -> dict[str, Tensor]:
    text = torch.zeros(BATCH, 8, MINIATURE.parts["transformer"]["text_dim"])
    gaze = _Gaze(model)
    gaze.watch(lessons)
    return dict(_losses(model, lessons, text, torch.Generator().manual_seed(0), gaze))


@torch.no_grad()
def test_what_the_clip_begins_with_is_not_asked_for(model: Any, beginning: Lessons) -> None:
    def changed(latent: int) -> Tensor:
        latents = beginning.latents.clone()
        latents[:, :, latent] += 3
        return loss(model, replace(beginning, latents=latents))["flow"]

    expected = loss(model, beginning)["flow"]
    assert changed(0) == expected
    assert changed(1) > 1.05 * expected


def test_looks_are_taught_only_where_two_speak(
    model: Any, beginning: Lessons, middle: Lessons
) -> None:
    assert loss(model, beginning)["gaze"] == 0
    taught = loss(model, middle)["gaze"]
    taught.backward()
    assert taught > 0
    assert model.blocks[0].attn1.to_q.weight.grad.abs().sum() > 0
