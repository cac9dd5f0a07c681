"""Generates the media of the examples: drawn faces and synthetic speech.

python -m examples.make_media

The miniature was not trained on any of them: its training draws other seeds, and no English.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from farm.media.audio import Samples, decode, write_wav
from farm.media.speech import speak
from farm.media.video import Pixels, encode_video
from farm.plan import FPS
from miniature.acting import Pose, animate, posed
from miniature.clips import Scene, sample_scene
from miniature.face import Sampler
from miniature.painting import HeadPosition

FOLDER = Path(__file__).parent

SENTENCE = (
    "Hello! Give this farm a face and a voice, and it makes a talking video of them. "
    "A long speech is cut into chunks, and each chunk goes on from the last."
)

QUESTION = "Who are you, and who drew the two of us?"
ANSWER = "I am the second voice. A program drew us both."
"""The lines of the first and the second speaker."""

ANSWERS_VOICE = "en-gb+linda"

STRANGERS = 90_000_000
"""First number of unseen faces, far above those of `miniature.training.generator`."""

SITTER = 1732
COUPLE = (3080, 1868)
"""The faces of the portrait and of the couple's image: chosen because they smile."""

PORTRAIT_SIZE = (512, 512)
COUPLE_SIZE = (320, 640)
"""Height and width in pixels."""

FILM_SIZE = (256, 256)
FILM_FRAMES = 97
"""Of the video in which the sitter sways, blinks and stays silent."""


def stranger(number: int) -> Scene:
    """The person and background of a number."""
    return sample_scene(
        Sampler(1, torch.Generator().manual_seed(STRANGERS + number)), 1, *PORTRAIT_SIZE
    )


def couple() -> Scene:
    """Two people side by side, with the first one's background."""
    first, second = (stranger(number) for number in COUPLE)
    return Scene(
        first.background,
        first.faces + second.faces,
        (_at(-0.95), _at(0.95)),
        first.tint,
        first.lift,
    )


def picture(
    who: Scene, size: tuple[int, int], *, openings: Sequence[float] = (0, 0)
) -> Image.Image:
    """An image of them with open eyes, each mouth closed at 0 and wide open at 1."""
    sampler = Sampler(1, torch.Generator().manual_seed(0))
    poses = tuple(posed(sampler, torch.tensor([float(opening)])) for opening in openings)
    return Image.fromarray(_drawn(who, poses[: len(who.faces)], size))


def film(who: Scene, size: tuple[int, int], frames: int) -> Iterator[Pixels]:
    """A silent person as `frames` frames, uint8 [H, W, 3] each."""
    shut = torch.zeros(1, frames)
    pose = animate(Sampler(1, torch.Generator().manual_seed(0)), shut, shut)
    return (_drawn(who, (pose.select(slice(frame, frame + 1)),), size) for frame in range(frames))


def say(text: str, path: Path, *, voice: str | None = None) -> None:
    """Writes speech as a WAV of whole video frames, so that audio features align with frames."""
    speak(text, path, voice=voice)
    write_wav(path, *whole_frames(*decode(path)))


def whole_frames(samples: Samples, rate: int) -> tuple[Samples, int]:
    """`samples` [C, n] cut after the last whole frame of 1 / 25 s, and their rate."""
    frames = samples.shape[1] * FPS // rate
    return samples[:, : frames * rate // FPS], rate


def _drawn(who: Scene, poses: tuple[Pose, ...], size: tuple[int, int]) -> Pixels:
    drawn = who.render(poses, *size)[0, :, 0]
    return np.asarray(((drawn + 1) * 127.5).round().byte().permute(1, 2, 0))


def _at(x: float) -> HeadPosition:
    """A head's position, in halves of the image's height from its centre."""
    return HeadPosition(*(torch.tensor([number]) for number in (x, -0.06, 0.6)))


def main(folder: Path) -> None:
    picture(stranger(SITTER), PORTRAIT_SIZE).save(folder / "portrait.png", optimize=True)
    picture(couple(), COUPLE_SIZE).save(folder / "couple.png", optimize=True)
    encode_video(folder / "sitter.mp4", film(stranger(SITTER), FILM_SIZE, FILM_FRAMES), crf=26)
    say(SENTENCE, folder / "speech.wav")
    say(QUESTION, folder / "question.wav")
    say(ANSWER, folder / "answer.wav", voice=ANSWERS_VOICE)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="instead of examples/")
    main(parser.parse_args().folder)
