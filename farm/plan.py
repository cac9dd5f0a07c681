"""Pure arithmetic: seconds of speech become video frames, and frames become overlapping chunks."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

FPS = 25
SPEECH_RATE = 16_000
"""Samples a second that the audio encoder hears."""

LOOK_BEHIND, LOOK_AHEAD = 2, 2
"""How many audio frames the model hears before a chunk's first and after its last video frame."""


@dataclass(frozen=True)
class Chunk:
    """One call of the model: `frame_num` frames from `start`, of which the first `overlap` were already shown."""

    index: int
    start: int
    frame_num: int
    overlap: int
    keep: int
    """New frames that this chunk adds to the video, after the overlap."""
    last: bool


@dataclass(frozen=True)
class Plan:
    """How a video of `frames` frames at 25 fps is cut into chunks."""

    frames: int
    frame_num: int
    motion_frame: int

    @property
    def chunks(self) -> int:
        stride = self.frame_num - self.motion_frame
        return 1 + max(0, ceil((self.frames - self.frame_num) / stride))

    def chunk(self, index: int) -> Chunk:
        if not 0 <= index < self.chunks:
            raise IndexError(f"chunk {index} of a plan of {self.chunks}")
        start = index * (self.frame_num - self.motion_frame)
        overlap = self.motion_frame if index else 0
        keep = min(self.frame_num, self.frames - start) - overlap
        return Chunk(index, start, self.frame_num, overlap, keep, index == self.chunks - 1)


def frames_of(samples: int) -> int:
    """Video frames that `samples` of 16 kHz speech cover, rounded down in floating point as the original does."""
    return int(samples / SPEECH_RATE * FPS)


def audio_rows(chunk: Chunk, length: int) -> list[int]:
    """Which rows of an embedding of `length` frames a chunk hears: `frame_num + 4` indices from `start - 2` on.

    Before the beginning the first row repeats. After the end the last row repeats, but in the last chunk of several the
    embedding goes back the way it came (a reflection), as InfiniteTalk pads it.
    """
    reflects = chunk.last and chunk.index > 0

    def row(frame: int) -> int:
        past = frame - length
        if past < 0:
            return max(frame, 0)
        return max(length - 1 - past, 0) if reflects else length - 1

    return [row(frame) for frame in range(chunk.start - LOOK_BEHIND, chunk.start + chunk.frame_num + LOOK_AHEAD)]
