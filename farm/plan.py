"""Pure arithmetic: speech lasts video frames, and frames form scenes of overlapping chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

FPS = 25
SPEECH_RATE = 16_000
"""Sample rate of the audio encoder's input in Hz."""

SAMPLES_PER_FRAME = SPEECH_RATE // FPS

LOOK_BEHIND = 2
LOOK_AHEAD = 2
"""Audio frames that the model hears before a chunk's first and after its last video frame."""


SHORTEST_SCENE = FPS
"""Frames below which a scene is merged into its neighbour."""


@dataclass(frozen=True)
class Chunk:
    """One call of the model: `frame_num` frames from `start`, which a lead-in makes negative.

    The first `overlap` frames are not shown: they repeat the end of the chunk before, or are the
    lead-in of a scene.
    """

    index: int
    start: int
    frame_num: int
    overlap: int
    keep: int
    """New frames that this chunk adds to the video, after the overlap."""
    begins_scene: bool
    last: bool
    lead_in: int
    """As in the plan."""

    @property
    def first(self) -> int:
        """The video frame at which the new frames begin."""
        return self.start + self.overlap

    @property
    def source_frame(self) -> int:
        """The frame of a source video that the chunk is generated from."""
        return max(0, self.start)


@dataclass(frozen=True)
class Plan:
    """How a video of `frames` frames at 25 fps is cut into chunks; none spans two scenes."""

    frames: int
    frame_num: int
    motion_frame: int
    cuts: tuple[int, ...] = ()
    """The first frame of every scene but the first, ascending."""
    lead_in: int = 0
    """Frames that are generated before those of a scene, and not shown: 0 or `motion_frame`."""

    def __post_init__(self) -> None:
        if self.cuts and any(begin >= end for begin, end in self.scenes):
            raise ValueError(
                f"cuts are {self.cuts}; they must rise, above 0 and below {self.frames}"
            )

    @property
    def scenes(self) -> list[tuple[int, int]]:
        """First frame of each scene, and the frame after its last."""
        return list(pairwise((0, *self.cuts, self.frames)))

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return sum(self._chunks_of(begin, end) for begin, end in self.scenes)

    def chunk(self, index: int) -> Chunk:
        """The chunk of that number, counted from 0 over the whole video."""
        chunks = self.chunks
        if not 0 <= index < chunks:
            raise IndexError(f"chunk {index} of a plan of {chunks}")
        index_in_scene, begin, end = self._locate(index)
        start = begin - self.lead_in + index_in_scene * self._stride
        overlap = self.motion_frame if index_in_scene else self.lead_in
        return Chunk(
            index=index,
            start=start,
            frame_num=self.frame_num,
            overlap=overlap,
            keep=min(self.frame_num, end - start) - overlap,
            begins_scene=index_in_scene == 0,
            last=index == chunks - 1,
            lead_in=self.lead_in,
        )

    @property
    def heard_rows(self) -> int:
        """Rows of the embedding up to the last one that a chunk hears, the lead-in among them."""
        last = self.chunk(self.chunks - 1)
        return self.lead_in + last.start + self.frame_num + LOOK_AHEAD

    def _locate(self, index: int) -> tuple[int, int, int]:
        """A chunk's number within its scene; the scene's first frame and the one after its last."""
        for begin, end in self.scenes:
            chunks = self._chunks_of(begin, end)
            if index < chunks:
                break
            index -= chunks
        return index, begin, end

    @property
    def _stride(self) -> int:
        return self.frame_num - self.motion_frame

    def _chunks_of(self, begin: int, end: int) -> int:
        frames = self.lead_in + end - begin
        return 1 + max(0, ceil((frames - self.frame_num) / self._stride))


def merge_short_scenes(cuts: Sequence[int], frames: int) -> tuple[int, ...]:
    """The ascending cuts without those that leave a scene shorter than SHORTEST_SCENE.

    A short scene is merged into the one before it, whose image stays; a short first scene is
    merged into the one after it.
    """
    ends = (*cuts[1:], frames)
    return tuple(
        cut
        for cut, end in zip(cuts, ends, strict=False)
        if cut >= SHORTEST_SCENE and end - cut >= SHORTEST_SCENE
    )


def frames_of(seconds: float | None) -> int | None:
    """Frames with that much sound; None if that is not known."""
    return None if seconds is None else int(seconds * FPS)


def frame_count(samples: int) -> int:
    """Video frames that `samples` of 16 kHz speech cover.

    Rounded down in floating point, as in the original.
    """
    return int(samples / SPEECH_RATE * FPS)


def audio_rows(chunk: Chunk, length: int) -> list[int]:
    """Row indices of an embedding of `length` rows that a chunk hears.

    These are `frame_num + 4` indices from frame `start - 2` on; the embedding begins with the
    lead-in. Before the beginning the first row repeats. After the end the last row repeats; in the
    last of several chunks without lead-in the embedding is mirrored instead, as InfiniteTalk pads
    it.
    """
    is_mirrored = chunk.last and chunk.index > 0 and chunk.lead_in == 0

    def row(index: int) -> int:
        past_end = index - length
        if past_end < 0:
            return max(index, 0)
        if is_mirrored:
            return max(length - 1 - past_end, 0)
        return length - 1

    begin = chunk.lead_in + chunk.start - LOOK_BEHIND
    end = chunk.lead_in + chunk.start + chunk.frame_num + LOOK_AHEAD
    return [row(index) for index in range(begin, end)]
