"""The miniature's examination: faces and voices that it never met, through the pipeline that workers run.

python -m miniature.evaluation VOICES.safetensors WEIGHTS_FOLDER [DEVICE]
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from farm.model.audio import load_audio_encoder
from farm.model.pipeline import Condition, Pipeline, Sampling, load_pipeline
from farm.model.presets import MINIATURE
from farm.plan import Plan, audio_rows
from miniature.acting import still
from miniature.audio_encoder import embeddings
from miniature.clips import Cast, cast, mouth_box
from miniature.face import Dice
from miniature.measure import correlation, drift, lag, likeness, mouth
from miniature.voices import Voices, opening

SEED, FRAMES = 77_000_077, 81
FACES = 4
QUICK = Sampling(steps=4, text_scale=1.0, audio_scale=1.0)
USUAL = Sampling(steps=8)
"""With the contract's guidance."""


@dataclass(frozen=True)
class Sitter:
    """Somebody to be filmed: a picture, and how it would look with each mouth closed and wide open."""

    who: Cast
    size: tuple[int, int]
    picture: Tensor

    @classmethod
    def number(cls, index: int, speakers: int = 1, size: tuple[int, int] = (128, 128)) -> Sitter:
        """Always the same one for a number."""
        dice = Dice(1, torch.Generator().manual_seed(SEED + index))
        who = cast(dice, speakers, *size)
        poses = tuple(still(dice, dice.between(-0.6, 0.9).clamp(min=0)) for _ in range(speakers))
        return cls(who, size, who.painted(poses, *size)[0, :, 0])

    def mouths(self, frames: Tensor) -> list[Tensor]:
        """How far each speaker's mouth is open in the frames."""
        return [self._mouth(frames, index) for index in range(len(self.who.faces))]

    def outside(self) -> Tensor:
        """[H, W]: everything but the mouths."""
        return 1 - torch.stack([self._box(index) for index in range(len(self.who.faces))]).amax(0)

    def _box(self, index: int) -> Tensor:
        return mouth_box(self.who.faces[index], self.who.heads[index], *self.size)[0]

    def _mouth(self, frames: Tensor, index: int) -> Tensor:
        closed, wide = (self._posed(amount)[0, :, 0] for amount in (0.0, 1.0))
        return mouth(frames, closed, wide, self._box(index))

    def _posed(self, amount: float) -> Tensor:
        rest = replace(still(Dice(1, torch.Generator()), torch.tensor([amount])), x=ZERO, y=ZERO, tilt=ZERO)
        return self.who.painted((rest,) * len(self.who.faces), *self.size)


ZERO = torch.zeros(1, 1)


@dataclass(frozen=True)
class Studio:
    """The pipeline and the ears of a checkpoint folder."""

    pipeline: Pipeline
    ears: torch.nn.Module
    text: Tensor
    negative: Tensor

    @classmethod
    def of(cls, folder: Path, device: str) -> Studio:
        pipeline = load_pipeline(folder, MINIATURE, device)
        ears = load_audio_encoder(folder, device).model
        text, negative = (pipeline.encode_text(prompt) for prompt in ("a person talks", "static"))
        return cls(pipeline, ears, text, negative)

    def film(self, sitter: Sitter, speech: Tensor, sampling: Sampling = QUICK, frames: int = FRAMES) -> Tensor:
        """[3, frames, H, W] of the sitter saying `speech` [S, n]."""
        with torch.no_grad():
            rows = embeddings(self.ears, speech.to(self.pipeline.device)).float().cpu()
        condition = self._condition(sitter)
        plan, tail, shown = Plan(frames, FRAMES, 9, ()), None, []
        for index in range(plan.chunks):
            chunk = plan.chunk(index)
            heard = rows[:, audio_rows(chunk, rows.shape[1])]
            made, tail = self.pipeline.chunk(
                chunk, condition=condition, text=self.text, negative_text=self.negative, audio=heard, tail=tail,
                sampling=sampling, report=lambda *_: None,
            )  # fmt: skip
            shown.append(made)
        return torch.cat(shown, 1)

    def _condition(self, sitter: Sitter) -> Condition:
        pixels = ((sitter.picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        return self.pipeline.condition(pixels, size="infinitetalk-480", frame_num=FRAMES)


def speech(voices: Voices, index: int, frames: int) -> Tensor:
    """[n]: what a held-out voice says for so many frames, sentence after sentence."""
    samples, clips = frames * 640, []
    while sum(map(len, clips)) < samples:
        clips += [voices.clip((index + 3 * len(clips)) % len(voices)), torch.zeros(4000)]
    return torch.cat(clips)[:samples]


def one_speaker(studio: Studio, voices: Voices, sampling: Sampling = QUICK) -> dict[str, float]:
    """Every voice with FACES faces, a chunk each."""
    found = []
    for index in range(len(voices)):
        sitter, said = Sitter.number(index), speech(voices, index, FRAMES)
        frames = studio.film(sitter, said[None], sampling)
        seen, wanted = sitter.mouths(frames)[0], opening(said[None])[0]
        other = opening(speech(voices, (index + 7) % len(voices), FRAMES)[None])[0]
        quiet = studio.film(sitter, torch.zeros_like(said)[None], sampling) if index % FACES == 0 else None
        same = likeness(frames, sitter.picture, sitter.outside())
        found.append(
            {
                "correlation": correlation(seen[2:], wanted[2:]),
                "lag": lag(seen[2:], wanted[2:]),
                "wrong": correlation(seen[2:], other[2:]),
                "silent": float(sitter.mouths(quiet)[0][4:].std() / seen[4:].std()) if quiet is not None else None,
                "identity": float(same.mean()),
                "first": float(same[0] - same.mean()),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return {
        "items": len(found),
        "correlation": mean(each["correlation"] for each in found),
        "worst_correlation": min(each["correlation"] for each in found),
        "worst_lag": max(abs(each["lag"]) for each in found),
        "wrong_audio": mean(abs(each["wrong"]) for each in found),
        "silent_share": mean(each["silent"] for each in found if each["silent"] is not None),
        "identity_db": mean(each["identity"] for each in found),
        "worst_identity_db": min(each["identity"] for each in found),
        "first_frame_db": mean(each["first"] for each in found),
        "worst_first_frame_db": min(each["first"] for each in found),
    }


def chains(studio: Studio, voices: Voices, chunks: int = 10, items: int = 4) -> dict[str, float]:
    """Ten chunks in a row: what the last has lost against the first."""
    frames, lost, gone, last = FRAMES + 72 * (chunks - 1), [], [], []
    for index in range(items):
        sitter, said = Sitter.number(100 + index), speech(voices, index, frames)
        film = studio.film(sitter, said[None], frames=frames)
        same = likeness(film, sitter.picture, sitter.outside())
        lost.append(float(same[:FRAMES].mean() - same[-72:].mean()))
        gone.append(drift(film[:, -72:], sitter.picture, sitter.outside()))
        last.append(correlation(sitter.mouths(film)[0][-72:], opening(said[None])[0][-72:]))
    return {"chunks": chunks, "identity_lost_db": max(lost), "colour_drift": max(gone), "last_correlation": min(last)}


def two_speakers(studio: Studio, voices: Voices, items: int = 8) -> dict[str, float]:
    """Two people in turns: each mouth against its own voice, and against the other's."""
    own, other = [], []
    for index in range(items):
        sitter = Sitter.number(200 + index, 2, (96, 176) if index % 2 else (112, 144))
        half = torch.arange(FRAMES * 640) < FRAMES * 320
        said = torch.stack([speech(voices, index, FRAMES) * half, speech(voices, index + 9, FRAMES) * ~half])
        mouths, wanted = sitter.mouths(studio.film(sitter, said)), opening(said)
        own += [correlation(mouths[s][2:], wanted[s][2:]) for s in (0, 1)]
        other += [correlation(mouths[s][2:], wanted[1 - s][2:]) for s in (0, 1)]
    return {"own": mean(own), "worst_own": min(own), "other": mean(other), "worst_other": max(other)}


def main(voices_path: str, folder: str, device: str = "cpu") -> None:
    voices, studio = Voices(Path(voices_path), held_out=True), Studio.of(Path(folder), device)
    for name, found in (
        ("quick", one_speaker(studio, voices)),
        ("usual", one_speaker(studio, voices, USUAL)),
        ("chains", chains(studio, voices)),
        ("two", two_speakers(studio, voices)),
    ):
        print(json.dumps({"examination": name, **{key: round(value, 4) for key, value in found.items()}}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
