"""The video of a job, decoded, and the speech that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from farm import Farm
from farm.media.audio import speech
from farm.media.container import decode_frames, open_media, video_stream
from farm.media.frame import upright
from farm.model.checkpoints import checkpoint_folder, load_part
from farm.model.vae import VideoAutoencoder
from farm.presets import MINIATURE
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
    """The frames of an MP4, and the openings that its speech asks for."""

    sitter: Sitter
    frames: Tensor
    """[3, F, H, W] in [-1, 1], decoded from the MP4."""
    said: list[Tensor]
    """The opening that each speaker's mouth should have, [F]."""
    borders: list[int]
    """The first frame of each chunk but the first."""
    quant: str | None
    """The format of the linears."""
    raw: dict[int, Tensor]
    """Frames [3, motion_frame, H, W] that never were H.264, by the first one's number: as the next
    chunk knows them, encoded and decoded by the autoencoder.
    """

    @property
    def mouths(self) -> list[Tensor]:
        """The opening that each mouth has, [F]."""
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
    used = job.result(timeout_s=60 * MINUTES).params
    frames = decoded(job.save(scratch / "talk.mp4"))
    downloaded = farm.context.registry.steps.committed(job.id, "download").output
    paths = [
        farm.context.store.fetch(key, scratch / f"audio-{speaker}")
        for speaker, key in enumerate(downloaded.audio_keys)
    ]
    plan = farm.context.registry.jobs.request(job.id).plan(used["frames"], used["cuts"])
    borders = [plan.chunk(index).first for index in range(1, plan.chunks)]
    return Take(
        sitter,
        frames,
        said=[opening(torch.from_numpy(speech(path))[None])[0, : used["frames"]] for path in paths],
        borders=borders,
        quant=used["quant"],
        raw={
            border - used["motion_frame"]: _tail(farm, job.id, chunk)
            for chunk, border in enumerate(borders)
        },
    )


def decoded(video: Path) -> Tensor:
    """[3, F, H, W] in [-1, 1]."""
    with open_media(video) as container:
        frames = [upright(frame) for frame in decode_frames(container, video_stream(container))]
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2) / 127.5 - 1


@torch.inference_mode()
def _tail(farm: Farm, job_id: str, chunk: int) -> Tensor:
    """[3, motion_frame, H, W]: the frames that the chunk leaves to the next one, as latents."""
    output = farm.context.registry.steps.committed(job_id, f"generate-{chunk:04d}").output
    latents = load(farm.context.store.get(output.tail_key))["motion_latents"]
    folder = checkpoint_folder(MINIATURE, farm.context.settings.weights_folder)
    return VideoAutoencoder(load_part(folder, "vae", dtype="float32")).decode(latents)
