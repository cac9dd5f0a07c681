"""The voice: wav2vec2's layers at the video's frame rate, and each latent frame's window of them.

A row is what the encoder makes of one video frame of sound: [layers, dim].
"""

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
from farm.model.checkpoints import load_do_normalize, load_part
from farm.model.weights.fingerprint import AUDIO_PARTS, UNREMEMBERED, Digests, fingerprint
from farm.plan import FPS, SPEECH_RATE, frame_count

MIN_SAMPLES = 400
"""Samples that wav2vec2's convolutions need for one feature."""

ROW_SAMPLES = SPEECH_RATE // FPS
"""Samples for each row."""

ONE_PASS_ROWS = 120 * FPS
"""Longest recording that is encoded at once, as the original does with all of them.

One pass takes 16 MB for each second at full size.
"""

SPAN_ROWS = 60 * FPS
"""Rows of one pass over a longer recording."""

CONTEXT_ROWS = 10 * FPS
"""Rows of context on each side of a span.

For the miniature 5 s would do; the real encoder has four times as many layers.
"""


@dataclass(frozen=True)
class Recording:
    """A recording ready for the encoder: samples [n] and the number of its rows."""

    samples: Tensor
    rows: int
    norm: nn.Module | None
    """Replaces the encoder's group norm, which would see one span only; None for one pass."""

    def spans(self) -> list[range]:
        """The rows that are encoded in one pass each."""
        length = SPAN_ROWS if self.norm else self.rows
        starts = range(0, self.rows, length)
        return [range(start, min(start + length, self.rows)) for start in starts]


class RecordingNorm(nn.Module):
    """The group norm behind wav2vec2's first convolution, with statistics over a whole recording.

    Normalised by itself, a span that is quieter than the rest would be encoded as loud as the rest.
    """

    def __init__(self, layer: Any, samples: Tensor) -> None:
        super().__init__()
        self.norm = layer.layer_norm
        # The convolution is linear, so the statistics of ten neighbouring samples give those of all
        # channels.
        conv = layer.conv
        mean, covariance = _moments(samples.unfold(0, conv.kernel_size[0], conv.stride[0]))
        kernels = conv.weight[:, 0].double().cpu()
        self.mean = (kernels @ mean).to(conv.weight)
        self.variance = (kernels @ covariance * kernels).sum(1).to(conv.weight)
        if conv.bias is not None:
            self.mean += conv.bias

    def forward(self, hidden: Tensor) -> Tensor:
        norm = self.norm
        return F.batch_norm(
            hidden,
            self.mean,
            self.variance,
            norm.weight,
            norm.bias,
            eps=norm.eps,
        )


class AudioEncoder:
    """wav2vec2 whose features are resampled to 25 a second before its transformer hears them."""

    def __init__(self, model: Any, *, do_normalize: bool, fingerprint: str = "") -> None:
        """`do_normalize`: it hears recordings of zero mean and unit variance, not raw samples.

        `fingerprint` is that of its files; empty for a model without files.
        """
        self.model = model.eval()
        self.do_normalize = do_normalize
        self.fingerprint = fingerprint
        model.feature_extractor.register_forward_hook(_resample_to_video_rate)

    def embed(self, speech: NDArray[np.float32]) -> Tensor:
        """The rows [frames, layers, dim] float32 of mono 16 kHz [n], one for each video frame.

        Raises as `prepare`.
        """
        recording = self.prepare(speech)
        return torch.cat([self.encode(recording, span) for span in recording.spans()])

    @torch.inference_mode()
    def prepare(self, speech: NDArray[np.float32]) -> Recording:
        """Mono 16 kHz [n] as a recording that can be encoded span by span.

        Raises EmbeddingFailed for less than one frame, and for samples that are not finite numbers.
        """
        rows = frame_count(len(speech))
        if rows < 1 or len(speech) < MIN_SAMPLES:
            raise EmbeddingFailed(
                f"{len(speech)} samples at {SPEECH_RATE} Hz are less than one video frame"
            )
        if not np.isfinite(speech).all():
            raise EmbeddingFailed("the speech holds samples that are not finite numbers")
        samples = torch.from_numpy(np.ascontiguousarray(speech, dtype=np.float32))
        if self.do_normalize:
            deviation = (samples.var(correction=0) + 1e-7).sqrt()
            samples = (samples - samples.mean()).div_(deviation)
        if rows <= ONE_PASS_ROWS:
            return Recording(samples, rows, norm=None)
        first_layer = self.model.feature_extractor.conv_layers[0]
        return Recording(samples, rows, RecordingNorm(first_layer, samples))

    @torch.inference_mode()
    def encode(self, recording: Recording, span: range) -> Tensor:
        """The rows of one of a recording's spans: [len(span), layers, dim] float32.

        A recording of one pass is encoded as the original does it. Of a longer one CONTEXT_ROWS are
        heard around each span, and its last samples, less than a row, are not heard at all.
        """
        if recording.norm is None:
            return self._hidden_states(recording.samples)
        begin = max(0, span.start - CONTEXT_ROWS)
        end = min(recording.rows, span.stop + CONTEXT_ROWS)
        # One sample more, which no feature hears: without it the number of rows could be rounded
        # down by one.
        samples = F.pad(recording.samples[begin * ROW_SAMPLES : end * ROW_SAMPLES], (0, 1))
        with _replaced_norm(self.model.feature_extractor.conv_layers[0], recording.norm):
            rows = self._hidden_states(samples)
        return rows[span.start - begin : span.stop - begin]

    def _hidden_states(self, samples: Tensor) -> Tensor:
        batch = samples[None].to(self.model.device)
        hidden = self.model(batch, output_hidden_states=True).hidden_states
        return torch.stack(hidden[1:])[:, 0].transpose(0, 1).float().cpu()


def load_audio_encoder(
    folder: Path, device: str = "cpu", *, digests: Digests = UNREMEMBERED
) -> AudioEncoder:
    """The encoder of a checkpoint folder, in float32."""
    model = load_part(folder, "audio_encoder", dtype="float32").to(device)
    return AudioEncoder(
        model,
        do_normalize=load_do_normalize(folder),
        fingerprint=fingerprint(folder, AUDIO_PARTS, digests),
    )


def audio_windows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that each latent frame of a chunk hears.

    `rows` [..., S, F + 4, layers, dim] begin two frames before the chunk and end two after it.
    Latent frame 0 stands for one video frame and hears the 5 rows around it: [..., S, 5, layers,
    dim]. Each later one stands for four and hears the 8 around them, contiguous: [..., S, T-1, 8,
    layers, dim].
    """
    first = rows[..., :5, :, :]
    later = rows[..., 1:, :, :].unfold(-3, 8, 4).movedim(-1, -3)
    return first, later


def _resample_to_video_rate(_: nn.Module, inputs: Any, features: Tensor) -> Tensor:
    """wav2vec2 makes about 49.9 features a second, the video has 25 frames."""
    frames = frame_count(inputs[0].shape[-1])
    return F.interpolate(features, size=frames, mode="linear", align_corners=True)


@contextmanager
def _replaced_norm(layer: Any, norm: nn.Module) -> Iterator[None]:
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
