"""Cuts are found at 25 fps, whatever the frame rate of the source."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from farm.errors import InvalidInput
from farm.media.scenes import cuts
from farm.media.video import read_frame

Film = Callable[..., Path]


def view(scene: int, time: float) -> np.ndarray:
    """An image with one colour per scene and a slowly moving square; uint8 [48, 64, 3]."""
    pixels = np.full(
        (48, 64, 3), [(200, 60, 60), (60, 180, 60), (70, 70, 220), (230, 230, 120)][scene], np.uint8
    )
    left = int(20 + 10 * np.sin(time))
    pixels[10:30, left : left + 12] = 255 - pixels[0, 0]
    return pixels


@pytest.fixture
def film(tmp_path) -> Film:
    """A video of the given frames, each (scene, milliseconds)."""

    def shoot(frames: list[tuple[int, int]]) -> Path:
        path = tmp_path / "film.mkv"
        with av.open(path, "w") as out:
            stream = out.add_stream("libx264", rate=25, options={"crf": "10"})
            stream.width = 64
            stream.height = 48
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for scene, milliseconds in frames:
                frame = av.VideoFrame.from_ndarray(view(scene, milliseconds / 1000), format="rgb24")
                frame.pts = milliseconds
                frame.time_base = Fraction(1, 1000)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return path

    return shoot


def steady(fps: float, *scenes: float) -> list[tuple[int, int]]:
    """Frames at an even rate; `scenes` are each one's seconds."""
    frames = []
    for scene, (begin, end) in enumerate(
        zip(np.cumsum([0, *scenes]), np.cumsum(scenes), strict=False)
    ):
        frames += [
            (scene, round(1000 * n / fps)) for n in range(round(begin * fps), round(end * fps))
        ]
    return frames


@pytest.mark.parametrize("fps", [12.5, 24, 25, 30, 50, 60])
def test_a_cut_is_the_first_frame_that_shows_the_new_scene(film, fps):
    path = film(steady(fps, 2.0, 1.5, 2.5))
    found = cuts(path, frames=1000)
    assert len(found) == 2
    for scene, cut in enumerate(found):
        before = read_frame(path, (cut - 1) / 25)
        after = read_frame(path, cut / 25)
        assert np.abs(before[2, 2].astype(int) - view(scene, 0)[2, 2]).max() < 20
        assert np.abs(after[2, 2].astype(int) - view(scene + 1, 0)[2, 2]).max() < 20


def test_a_cut_is_found_by_the_frames_timestamps(film):
    # given a scene with irregular frames, and one at 50 fps from 2.51 s on
    slow = [(0, milliseconds) for milliseconds in (0, 300, 350, 900, 1000, 1700, 1800, 2200, 2400)]
    path = film([*slow, *((1, 2510 + 20 * n) for n in range(100))])
    assert cuts(path, frames=1000) == [63]


def test_movement_is_not_a_cut(film):
    assert cuts(film(steady(25, 4.0)), frames=1000) == []


def test_cuts_after_the_end_of_the_video_are_ignored(film):
    path = film(steady(25, 2.0, 2.0, 2.0))
    assert cuts(path, frames=1000) == [50, 100]
    assert cuts(path, frames=80) == [50]


def test_a_file_that_is_not_a_video_is_invalid(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"words")
    with pytest.raises(InvalidInput, match=r"^x\.mp4"):
        cuts(tmp_path / "x.mp4", frames=10)
