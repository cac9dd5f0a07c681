"""Evaluation of the miniature on held-out faces and voices, through the pipeline of the workers.

    python -m miniature.evaluation VOICES.safetensors [WEIGHTS_FOLDER]

prints a line for each item and one for each test; it takes twenty minutes on two cores.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from farm.model.audio import load_audio_encoder
from farm.model.denoise import Sampling
from farm.model.pipeline import Condition, Pipeline, load_pipeline
from farm.model.vae import joined
from farm.plan import Plan, audio_rows
from farm.presets import MINIATURE
from miniature.audio_encoder import embeddings
from miniature.measure import colour_drift, correlation, lag, psnr
from miniature.noises import RATE
from miniature.sitter import Sitter
from miniature.voices import FRAME, Voices, opening

FRAMES = 81
MOTION_FRAMES = 9
SHOWN = slice(3, None)
"""A clip begins with its picture, whose mouth is in a random position."""

QUIET = slice(9, None)
"""By then, a mouth that was open in the picture has closed if there is no speech."""

QUICK = Sampling(steps=4, text_scale=1.0, audio_scale=1.0)
USUAL = Sampling(steps=8)
"""With the contract's guidance, three passes a step."""

Metrics = dict[str, float]


@dataclass(frozen=True)
class TalkingModel:
    """The pipeline and the audio encoder of a checkpoint folder."""

    pipeline: Pipeline
    audio_encoder: nn.Module
    sampling: Sampling = QUICK

    @classmethod
    def load(cls, folder: Path, sampling: Sampling = QUICK) -> TalkingModel:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        audio_encoder = load_audio_encoder(folder, device).model
        return cls(load_pipeline(folder, MINIATURE, device), audio_encoder, sampling)

    @torch.no_grad()
    def generate(self, sitter: Sitter, clean: Tensor) -> Tensor:
        """[3, F, H, W] of the sitter saying `clean` speech [S, n], chunk after chunk."""
        rows = embeddings(self.audio_encoder, clean.to(self.pipeline.device)).float().cpu()
        text = self.pipeline.encode_text("a person talks")
        negative = self.pipeline.encode_text("static")
        condition = self._condition(sitter)
        tail = None
        shown = []
        plan = Plan(rows.shape[1], FRAMES, MOTION_FRAMES, ())
        for chunk in map(plan.chunk, range(plan.chunks)):
            frames, tail = self.pipeline.chunk(
                chunk,
                condition=condition,
                text=text,
                negative_text=negative,
                audio=rows[:, audio_rows(chunk, rows.shape[1])],
                tail=tail,
                sampling=self.sampling,
                report=lambda *_: None,
                show=joined,
            )
            shown.append(frames.cpu())
        return torch.cat(shown, 1)

    def _condition(self, sitter: Sitter) -> Condition:
        pixels = ((sitter.picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        return self.pipeline.condition(pixels, size="infinitetalk-480", frame_num=FRAMES)


def speech(voices: Voices, index: int, frames: int) -> Tensor:
    """`frames` frames of sentences, [n], beginning with the clip of that index."""
    clean = torch.zeros(0)
    samples = frames * FRAME
    while len(clean) < samples:
        clean = torch.cat([clean, voices.clip(index % len(voices)), torch.zeros(RATE // 4)])
        index += 3
    return clean[:samples]


def one_speaker(model: TalkingModel, voices: Voices) -> Iterator[Metrics]:
    """A chunk of each held-out sentence, each with another face."""
    for index in range(len(voices)):
        sitter = Sitter.numbered(index)
        clean = speech(voices, index, FRAMES)[None]
        frames = model.generate(sitter, clean)
        seen = sitter.mouths(frames)[0]
        wanted = opening(clean)[0]
        other = opening(speech(voices, index + 7, FRAMES)[None])[0]
        silent = sitter.mouths(model.generate(sitter, torch.zeros_like(clean)))[0]
        same = psnr(frames, sitter.picture, sitter.outside())
        yield {
            "correlation": correlation(seen[SHOWN], wanted[SHOWN]),
            "lag": abs(lag(seen[SHOWN], wanted[SHOWN])),
            "wrong_audio": correlation(seen[SHOWN], other[SHOWN]),
            "silent_movement": float(silent[QUIET].std() / seen[QUIET].std()),
            "identity_db": float(same.mean()),
            "first_frame_db": float(same[0] - same.mean()),
        }


def ten_chunks(model: TalkingModel, voices: Voices) -> Iterator[Metrics]:
    """A long video: the difference of the last chunk from the first."""
    length = FRAMES - MOTION_FRAMES
    for index in range(10):
        sitter = Sitter.numbered(100 + index)
        clean = speech(voices, index, FRAMES + 9 * length)[None]
        frames = model.generate(sitter, clean)
        seen = sitter.mouths(frames)[0]
        wanted = opening(clean)[0]
        same = psnr(frames, sitter.picture, sitter.outside())
        yield {
            "identity_lost_db": float(same[:FRAMES].mean() - same[-length:].mean()),
            "colour_drift": colour_drift(frames[:, -length:], sitter.picture, sitter.outside()),
            "correlation_of_the_last": correlation(seen[-length:], wanted[-length:]),
        }


def two_speakers(model: TalkingModel, voices: Voices) -> Iterator[Metrics]:
    """Two people, of whom one talks in the first half and the other in the second."""
    first_half = torch.arange(FRAMES * FRAME) < FRAMES * FRAME / 2
    for index in range(16):
        size = (96, 176) if index % 2 else (112, 144)
        sitter = Sitter.numbered(200 + index, 2, size)
        one = speech(voices, index, FRAMES)
        other = speech(voices, index + 9, FRAMES)
        clean = torch.stack([one * first_half, other * ~first_half])
        mouths = sitter.mouths(model.generate(sitter, clean))
        wanted = opening(clean)
        for speaker in (0, 1):
            seen = mouths[speaker][SHOWN]
            yield {
                "own_track": correlation(seen, wanted[speaker][SHOWN]),
                "others_track": correlation(seen, wanted[1 - speaker][SHOWN]),
            }


def print_results(name: str, items: Iterator[Metrics]) -> None:
    """Prints every item's metrics, then their means and extremes."""
    rows = []
    for metrics in items:
        rows.append(metrics)
        rounded = {key: round(value, 3) for key, value in metrics.items()}
        print(json.dumps({"item": f"{name} {len(rows)}", **rounded}))
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    reductions: dict[str, Callable[[list[float]], float]] = {
        "mean": mean,
        "least": min,
        "most": max,
    }
    summary = {
        key: {how: round(reduce(column), 4) for how, reduce in reductions.items()}
        for key, column in columns.items()
    }
    print(json.dumps({"test": name, "items": len(rows), **summary}), flush=True)


def main(voices_path: str, folder: str = str(MINIATURE.folder(Path()))) -> None:
    voices = Voices(Path(voices_path), held_out=True)
    quick = TalkingModel.load(Path(folder))
    print_results("one speaker, 4 steps", one_speaker(quick, voices))
    print_results(
        "one speaker, 8 steps with guidance",
        one_speaker(TalkingModel(quick.pipeline, quick.audio_encoder, USUAL), voices),
    )
    print_results("ten chunks", ten_chunks(quick, voices))
    print_results("two speakers", two_speakers(quick, voices))


if __name__ == "__main__":
    main(*sys.argv[1:])
