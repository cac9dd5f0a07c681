"""ffmpeg, fed with a sound sample by sample: so it opens no file from outside, and hears what the model hears."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np

from farm.errors import FFmpegFailed
from farm.media.audio import Samples, audio_blocks

AAC_KBPS_PER_CHANNEL = 96

REPRODUCIBLE = {"map_metadata": -1, "fflags": "+bitexact", "flags:a": "+bitexact"}
"""The recording's tags (names, places) are nobody's business, and dates would make every run's bytes differ."""

AudioBlocks = Iterable[tuple[Samples, int]]


def open_audio(sound: Path) -> tuple[int, int, AudioBlocks]:
    """How many channels a sound has, its rate, and its pieces; InvalidInput without any."""
    rest: Iterator[tuple[Samples, int]] = audio_blocks(sound)
    first = next(rest)
    return len(first[0]), first[1], chain([first], rest)


def audio_input(channels: int, rate: int, seconds: float) -> Any:
    """The sound that `run` feeds, as a stream for a command, `seconds` long: cut off, or followed by silence."""
    sound = ffmpeg.input("pipe:0", format="f32le", ar=rate, ac=channels)
    return sound["a:0"].filter("apad", whole_dur=f"{seconds:.6f}").filter("atrim", end=f"{seconds:.6f}")


def run_ffmpeg(command: Any, track: AudioBlocks, *, task: str) -> None:
    """Runs a command of ffmpeg-python's, which may replace its output, and feeds it; raises FFmpegFailed.

    The sound cannot drift from the lips by gaps in a recording's clock, because only its samples are counted.
    """
    # Without -y and -nostdin ffmpeg may wait for an answer that nobody gives.
    quiet = command.global_args("-nostdin", "-hide_banner", "-loglevel", "error").overwrite_output()
    # Always the bundled program, so that every machine makes the same file.
    with ffmpeg.run_async(quiet, cmd=imageio_ffmpeg.get_ffmpeg_exe(), pipe_stdin=True, pipe_stderr=True) as process:
        # A pipe breaks when ffmpeg has heard enough, or has failed; its exit status tells which.
        with suppress(BrokenPipeError):
            for samples, _ in track:
                process.stdin.write(np.ascontiguousarray(samples.T, "<f4").tobytes())
        _, said = process.communicate()
    if process.returncode:
        last = "\n".join(said.decode("utf-8", "replace").strip().splitlines()[-5:])
        raise FFmpegFailed(f"ffmpeg could not {task}: {last}")
