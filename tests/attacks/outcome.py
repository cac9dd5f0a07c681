"""What the steps do with a source or a recording, and how that ends."""

from __future__ import annotations

from pathlib import Path

from farm.errors import InvalidInput
from farm.media import decoder
from farm.media.sandbox import SandboxLimits, sandboxed

LIMITS = SandboxLimits(seconds=20)


def outcome_of(bomb: Path, folder: Path) -> str:
    """`stored`, or the message of the error."""
    path = bomb.rename(folder / "cond_video")
    try:
        if bomb.suffix in (".flac", ".wav"):
            read_audio(path, folder)
        else:
            read_visual(path, folder)
    except InvalidInput as error:
        return error.message
    return "stored"


def read_audio(path: Path, folder: Path) -> None:
    read = sandboxed(decoder.read_audio, limits=LIMITS)
    read(path=path, flac=folder / "x.flac", max_seconds=3600, field=path.name)


def read_visual(path: Path, folder: Path) -> None:
    read = sandboxed(decoder.read_visual, limits=LIMITS)
    visual = read(path=path, image=folder / "x.png", field=path.name)
    if isinstance(visual.found, decoder.Clip):
        read_frames = sandboxed(decoder.read_frames, limits=LIMITS)
        read_frames(path=path, folder=folder, seconds=[0, 1.1, 2], field=path.name)
