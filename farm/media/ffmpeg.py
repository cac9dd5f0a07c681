"""Running ffmpeg on audio that we decode ourselves.

It opens no untrusted file, and encodes exactly the samples that the model hears.
"""

from __future__ import annotations

import errno
import os
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

AAC = {"c:a": "aac", "aac_coder": "fast"}
"""Of speech this coder keeps more than FFmpeg's default in as many bytes (docs/lab-log.md)."""

REPRODUCIBLE = {"map_metadata": -1, "fflags": "+bitexact", "flags:a": "+bitexact"}
"""Drops the recording's tags, which may hold names and places; dates would make bytes differ."""

SHOWN_LINES = 5
"""Last lines of ffmpeg's output in an error."""

AudioBlocks = Iterable[tuple[Samples, int]]


def open_audio(path: Path) -> tuple[int, int, AudioBlocks]:
    """Number of channels, sample rate and blocks of an audio file; InvalidInput without audio."""
    rest: Iterator[tuple[Samples, int]] = audio_blocks(path)
    first = next(rest)
    samples, rate = first
    return len(samples), rate, chain([first], rest)


def audio_input(channels: int, rate: int, seconds: float) -> Any:
    """The input stream that `run_ffmpeg` feeds, cut or padded with silence to `seconds`."""
    stream = ffmpeg.input("pipe:0", format="f32le", ar=rate, ac=channels)["a:0"]
    padded = stream.filter("apad", whole_dur=f"{seconds:.6f}")
    return padded.filter("atrim", end=f"{seconds:.6f}")


def run_ffmpeg(command: Any, blocks: AudioBlocks, *, task: str) -> None:
    """Runs a command of ffmpeg-python, feeds it the audio and overwrites its output.

    Audio cannot drift from the lips through gaps in a recording's timestamps, because only samples
    are counted. Raises FFmpegFailed.
    """
    # Without -nostdin and -y ffmpeg may wait for an answer on its terminal.
    command = command.global_args("-nostdin", "-hide_banner", "-loglevel", "error")
    command = command.overwrite_output()
    # Always the bundled program, so that every machine writes the same bytes.
    program = imageio_ffmpeg.get_ffmpeg_exe()
    with ffmpeg.run_async(command, cmd=program, pipe_stdin=True, pipe_stderr=True) as process:
        # The pipe breaks when ffmpeg has enough samples or has failed; its exit status tells which.
        with suppress(BrokenPipeError):
            for samples, _ in blocks:
                process.stdin.write(np.ascontiguousarray(samples.T, "<f4").tobytes())
        _, output = process.communicate()
    if process.returncode:
        text = output.decode("utf-8", "replace").strip()
        lines = text.splitlines()[-SHOWN_LINES:]
        error = FFmpegFailed(f"ffmpeg could not {task}: " + "\n".join(lines))
        is_full = os.strerror(errno.ENOSPC) in text
        raise error from OSError(errno.ENOSPC, text) if is_full else None
