"""Pure arithmetic: seconds of speech become video frames, and frames become scenes of overlapping chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

FPS = 25
SPEECH_RATE = 16_000
"""Samples a second that the audio encoder hears."""

LOOK_BEHIND, LOOK_AHEAD = 2, 2
"""How many audio frames the model hears before a chunk's first and after its last video frame."""


SHORTEST_SCENE = FPS
"""Frames below which a scene is not worth a chunk of its own."""


@dataclass(frozen=True)
class Chunk:
    """One call of the model: `frame_num` frames from `start`, of which the first `overlap` were already shown.

    A chunk without overlap begins a scene.
    """

    index: int
    start: int
    frame_num: int
    overlap: int
    keep: int
    """New frames that this chunk adds to the video, after the overlap."""
    last: bool

    @property
    def first(self) -> int:
        """The frame of the video with which its new ones begin."""
        return self.start + self.overlap


@dataclass(frozen=True)
class Plan:
    """How a video of `frames` frames at 25 fps is cut into chunks, none of which reaches back into another scene."""

    frames: int
    frame_num: int
    motion_frame: int
    cuts: tuple[int, ...] = ()
    """The first frame of every scene but the first, rising."""

    def __post_init__(self) -> None:
        if self.cuts and any(begin >= end for begin, end in self.scenes):
            raise ValueError(f"cuts are {self.cuts}; they must rise, above 0 and below {self.frames}")

    @property
    def scenes(self) -> list[tuple[int, int]]:
        """First frame of each scene, and the frame after its last."""
        return list(pairwise((0, *self.cuts, self.frames)))

    @property
    def chunks(self) -> int:
        return sum(self._chunks_of(begin, end) for begin, end in self.scenes)

    def chunk(self, index: int) -> Chunk:
        chunks = self.chunks
        if not 0 <= index < chunks:
            raise IndexError(f"chunk {index} of a plan of {chunks}")
        place, scenes = index, iter(self.scenes)
        begin, end = next(scenes)
        while place >= self._chunks_of(begin, end):
            place -= self._chunks_of(begin, end)
            begin, end = next(scenes)
        start = begin + place * (self.frame_num - self.motion_frame)
        overlap = self.motion_frame if place else 0
        keep = min(self.frame_num, end - start) - overlap
        return Chunk(index, start, self.frame_num, overlap, keep, index == chunks - 1)

    def _chunks_of(self, begin: int, end: int) -> int:
        stride = self.frame_num - self.motion_frame
        return 1 + max(0, ceil((end - begin - self.frame_num) / stride))


def merge_short_scenes(cuts: Sequence[int], frames: int) -> tuple[int, ...]:
    """Those of the rising cuts that leave no scene of a video shorter than SHORTEST_SCENE.

    A shorter scene belongs to the one before it, whose picture then stays; a first one to the one after it.
    """
    ends = (*cuts[1:], frames)
    return tuple(
        cut for cut, end in zip(cuts, ends, strict=False) if cut >= SHORTEST_SCENE and end - cut >= SHORTEST_SCENE
    )


def frame_count(samples: int) -> int:
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
