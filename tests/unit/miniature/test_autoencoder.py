"""The autoencoder begins with pictures, and what it learns of them holds for videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

from farm.model.parts import build
from farm.model.vae import VideoAutoencoder
from farm.presets import MINIATURE
from miniature import autoencoder
from miniature.autoencoder import _losses, _start_without_memory
from miniature.clips import Clips
from miniature.studio import Studio
from miniature.voices import Voices


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    statistics = {"latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
    return _start_without_memory(build("vae", {**MINIATURE.parts["vae"], **statistics}))


def rendered(stored: Path, frames: int) -> Clips:
    return Studio(Voices(stored)).clips(Generator().manual_seed(0), 2, 1, frames, (32, 48))


@torch.no_grad()
def test_a_video_of_one_picture_is_drawn_as_that_picture_is(model: Any, stored: Path) -> None:
    vae = VideoAutoencoder(model, latents_per_call=20)
    picture = rendered(stored, 1).video
    drawn = vae.decode(vae.encode(picture))
    still = vae.decode(vae.encode(picture.expand(-1, -1, 13, -1, -1)))
    assert drawn.std() > 0.01
    torch.testing.assert_close(still, drawn.expand_as(still))


@torch.no_grad()
def test_every_step_has_other_noise(model: Any, stored: Path) -> None:
    clips = rendered(stored, 5)
    one, same, other = (
        _losses(model, clips, Generator().manual_seed(seed))["loss"] for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


@torch.no_grad()
def test_missing_lip_movement_counts_also_for_dark_lips(
    model: Any, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an autoencoder that has learnt nothing yet
    clips = rendered(stored, 41)
    rng = Generator().manual_seed(0)
    missed = _losses(model, clips, rng)["missed"]
    assert missed > 0.6
    # pictures of a third of the contrast count nearly as much
    assert _losses(model, replace(clips, video=clips.video / 3), rng)["missed"] > 0.7 * missed
    # they are in the loss
    whole = _losses(model, clips, Generator().manual_seed(0))["loss"]
    monkeypatch.setattr(autoencoder, "LIP_WEIGHT", 0)
    assert _losses(model, clips, Generator().manual_seed(0))["loss"] < whole - 0.1 * missed
    # and a picture has no lips that move
    assert _losses(model, rendered(stored, 1), rng)["missed"] == 0
