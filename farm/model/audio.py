"""The voice: wav2vec2's layers at the video's frame rate, and the windows of them that each latent frame hears."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from farm.errors import EmbeddingFailed
from farm.model.checkpoints import load_part
from farm.plan import FPS, SPEECH_RATE, frame_count

SHORTEST_SPEECH = 400
"""Samples that wav2vec2's convolutions need for one feature."""

ROW = SPEECH_RATE // FPS
"""Samples for each row."""

ONE_PASS = 120 * FPS
"""Rows up to which a recording is encoded at once, as the original does with all: 16 MB a second at full size."""

STRETCH = 60 * FPS
"""Rows that a pass over a longer recording makes."""

CONTEXT = 10 * FPS
"""Rows that such a pass hears on both sides besides. For the miniature 5 s would do; the real encoder has four times as
many layers.
"""


@dataclass(frozen=True)
class Voice:
    """A recording as the encoder takes it: samples [n], normalised as a whole, and how many rows it has."""

    samples: Tensor
    rows: int
    norm: nn.Module | None
    """What stands in for the encoder's group norm, which would see no more than a stretch; None for one pass."""

    def stretches(self) -> list[range]:
        """The rows that are made in one pass each."""
        length = STRETCH if self.norm else self.rows
        return [
            range(first, min(first + length, self.rows)) for first in range(0, self.rows, length)
        ]


class WholeNorm(nn.Module):
    """The group norm behind wav2vec2's first convolution, with each channel's mean and variance over a whole recording.

    A pass over a stretch that is quieter than the rest would otherwise hear it as loud as the rest.
    """

    def __init__(self, layer: Any, samples: Tensor) -> None:
        super().__init__()
        self.norm = layer.layer_norm
        # The convolution is linear, so ten samples' means and covariances tell those of all channels.
        mean, covariance = _moments(
            samples.unfold(0, layer.conv.kernel_size[0], layer.conv.stride[0])
        )
        kernels = layer.conv.weight[:, 0].double().cpu()
        self.mean = (kernels @ mean).to(layer.conv.weight)
        self.variance = (kernels @ covariance * kernels).sum(1).to(layer.conv.weight)
        if layer.conv.bias is not None:
            self.mean += layer.conv.bias

    def forward(self, hidden: Tensor) -> Tensor:
        norm = self.norm
        return F.batch_norm(hidden, self.mean, self.variance, norm.weight, norm.bias, eps=norm.eps)


class AudioEncoder:
    """wav2vec2 whose features are resampled to 25 a second before its transformer hears them."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        model.feature_extractor.register_forward_hook(_at_video_rate)

    def embed(self, speech: NDArray[np.float32]) -> Tensor:
        """Mono 16 kHz [n] in; [frames, layers, dim] float32 out, one row for each video frame. Raises as `listen`."""
        voice = self.listen(speech)
        return torch.cat([self.rows(voice, stretch) for stretch in voice.stretches()])

    @torch.inference_mode()
    def listen(self, speech: NDArray[np.float32]) -> Voice:
        """A recording, mono 16 kHz [n], ready to be encoded stretch by stretch.

        Raises EmbeddingFailed for less than one frame, and for sound that is not a finite number everywhere.
        """
        frames = frame_count(len(speech))
        if frames < 1 or len(speech) < SHORTEST_SPEECH:
            raise EmbeddingFailed(
                f"{len(speech)} samples at {SPEECH_RATE} Hz are less than one video frame"
            )
        if not np.isfinite(speech).all():
            raise EmbeddingFailed("the speech holds samples that are not finite numbers")
        samples = torch.from_numpy(np.ascontiguousarray(speech, dtype=np.float32))
        deviation = (samples.var(correction=0) + 1e-7).sqrt()
        samples = (samples - samples.mean()).div_(deviation)
        first = self.model.feature_extractor.conv_layers[0]
        return Voice(
            samples,
            frames,
            WholeNorm(first, samples) if frames > ONE_PASS else None,
        )

    @torch.inference_mode()
    def rows(self, voice: Voice, stretch: range) -> Tensor:
        """One of a voice's stretches: [len(stretch), layers, dim] float32.

        A recording in one pass is encoded as the original does it. Of a longer one CONTEXT is heard around each
        stretch, and its last samples, less than a row, are not heard at all.
        """
        if voice.norm is None:
            return self._encoded(voice.samples)
        begin = max(0, stretch.start - CONTEXT)
        end = min(voice.rows, stretch.stop + CONTEXT)
        # One sample more, which no feature hears: so many rows exactly could be rounded down to one less.
        samples = F.pad(voice.samples[begin * ROW : end * ROW], (0, 1))
        with _instead(self.model.feature_extractor.conv_layers[0], voice.norm):
            rows = self._encoded(samples)
        return rows[stretch.start - begin : stretch.stop - begin]

    def _encoded(self, samples: Tensor) -> Tensor:
        hidden = self.model(
            samples[None].to(self.model.device), output_hidden_states=True
        ).hidden_states
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
    frames = frame_count(inputs[0].shape[-1])
    return F.interpolate(features, size=frames, mode="linear", align_corners=True)


@contextmanager
def _instead(layer: Any, norm: nn.Module) -> Iterator[None]:
    """A convolution's own norm is replaced while the block runs."""
    own = layer.layer_norm
    layer.layer_norm = norm
    try:
        yield
    finally:
        layer.layer_norm = own


def _moments(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [k] and covariance [k, k] of [n, k], in float64, a few megabytes at a time."""
    total = torch.zeros(())
    products = torch.zeros(())
    for block in windows.split(1 << 16):
        block = block.double()
        total = total + block.sum(0)
        products = products + block.T @ block
    mean = total / len(windows)
    return mean, products / len(windows) - torch.outer(mean, mean)
