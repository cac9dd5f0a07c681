"""The voice: wav2vec2's layers at the video's frame rate, and the windows of them that each latent frame hears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from farm.errors import EmbeddingFailed
from farm.model.checkpoints import load_part
from farm.plan import SPEECH_RATE, frames_of

SHORTEST_SPEECH = 400
"""Samples that wav2vec2's convolutions need for one feature."""


class AudioEncoder:
    """wav2vec2 whose features are resampled to 25 a second before its transformer hears them."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        model.feature_extractor.register_forward_hook(_at_video_rate)

    @torch.inference_mode()
    def embed(self, speech: NDArray[np.float32]) -> Tensor:
        """Mono 16 kHz [n] in; [frames, layers, dim] float32 out, one row for each video frame.

        The whole recording is normalised and encoded at once. Raises EmbeddingFailed for less than one frame, and for
        sound that is not a finite number everywhere.
        """
        if frames_of(len(speech)) < 1 or len(speech) < SHORTEST_SPEECH:
            raise EmbeddingFailed(f"{len(speech)} samples at {SPEECH_RATE} Hz are less than one video frame")
        if not np.isfinite(speech).all():
            raise EmbeddingFailed("the speech holds samples that are not finite numbers")
        samples = torch.from_numpy(np.ascontiguousarray(speech, dtype=np.float32))
        samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
        hidden = self.model(samples[None].to(self.model.device), output_hidden_states=True).hidden_states
        return torch.stack(hidden[1:])[:, 0].transpose(0, 1).float().cpu()


def load_audio_encoder(folder: Path, device: str = "cpu") -> AudioEncoder:
    """The encoder of a checkpoint folder, in float32."""
    return AudioEncoder(load_part(folder, "audio_encoder", dtype="float32").to(device))


def windows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """What each latent frame of a chunk hears, from its rows [..., S, F + 4, layers, dim], two before, two after.

    Latent frame 0 stands for one video frame and hears the 5 rows around it: [..., S, 5, layers, dim]. Each later
    one stands for four and hears the 8 around them, contiguous: [..., S, T-1, 8, layers, dim].
    """
    return rows[..., :5, :, :], rows[..., 1:, :, :].unfold(-3, 8, 4).movedim(-1, -3)


def _at_video_rate(_: nn.Module, inputs: Any, features: Tensor) -> Tensor:
    """wav2vec2 hears about 49.9 features a second, the video has 25 frames."""
    frames = frames_of(inputs[0].shape[-1])
    return F.interpolate(features, size=frames, mode="linear", align_corners=True)
