"""What a job of the farm made of somebody, seen and heard again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from farm import Farm
from farm.media.audio import speech
from farm.media.container import frames_of, open_media, picture_stream
from farm.media.video import upright
from farm.store import Store
from miniature.voices import opening
from tests.lipsync.sitter import Sitter

MINUTES = 10

JOB = {
    "prompt": "a friendly person talks",
    "mode": "streaming",
    "sample_steps": 4,
    "sample_text_guide_scale": 1.0,
    "sample_audio_guide_scale": 1.0,
}


@dataclass(frozen=True)
class Take:
    """The frames of an MP4, and what was said to them."""

    sitter: Sitter
    frames: Tensor
    """[3, F, H, W] in [-1, 1], decoded from the MP4."""
    said: list[Tensor]
    """How far each speaker's mouth should be open, [F]."""
    borders: list[int]
    """The first frame of each chunk but the first."""
    raw: dict[int, Tensor]
    """Frames [3, 9, H, W] as the model made them, by the first one's number: the tails of the chunks."""

    @property
    def mouths(self) -> list[Tensor]:
        """How far each mouth is open, [F]."""
        return self.sitter.mouths(self.frames)

    @property
    def changes(self) -> Tensor:
        """[F - 1]: how much each frame differs from the one before, outside the mouths."""
        outside = self.sitter.outside
        steps = (self.frames[:, 1:] - self.frames[:, :-1]).abs().mean(0)
        return (steps * outside).sum((1, 2)) / outside.sum()


def take(farm: Farm, sitter: Sitter, scratch: Path, **fields: Any) -> Take:
    """The take of a job with these fields of the contract."""
    job = farm.submit({**JOB, "cond_video": str(sitter.source), **fields})
    result = job.result(timeout_s=60 * MINUTES)
    frames = decoded(Path(unquote(urlsplit(result.video.url).path)))
    sounds = farm.place.registry.product(job.id, "download")["sounds"]
    made = [farm.place.registry.product(job.id, f"generate-{chunk:04d}") for chunk in range(result.params["chunks"])]
    stride = result.params["frame_num"] - result.params["motion_frame"]
    borders = [result.params["frame_num"] + stride * chunk for chunk in range(len(made) - 1)]
    return Take(
        sitter,
        frames,
        [
            _opening(farm.place.store.fetch(key, scratch / f"sound-{who}"), len(frames[0]))
            for who, key in enumerate(sounds)
        ],
        borders,
        {
            border - result.params["motion_frame"]: _tail(farm.place.store, goods["tail"])
            for border, goods in zip(borders, made, strict=False)
        },
    )


def decoded(video: Path) -> Tensor:
    """[3, F, H, W] in [-1, 1]."""
    with open_media(video) as container:
        frames = [upright(frame) for frame in frames_of(container, picture_stream(container))]
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2) / 127.5 - 1


def _opening(sound: Path, frames: int) -> Tensor:
    return opening(torch.from_numpy(speech(sound))[None])[0, :frames]


def _tail(store: Store, key: str) -> Tensor:
    return load(store.get(key))["motion_frames"]
