"""H.264 in a thread: the same file as without one, whatever ends it early."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from farm.errors import FFmpegFailed
from farm.media import encoder
from farm.media.encoder import MAX_WAITING, Encoder
from farm.media.frame import Pixels
from farm.media.video import encode_video
from tests.support.waiting import wait_for


def frames(count: int, side: int = 32) -> Pixels:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def threads() -> Iterator[set[threading.Thread]]:
    """The threads before; afterwards there are no others."""
    before = set(threading.enumerate())
    yield before
    assert set(threading.enumerate()) <= before


@pytest.mark.usefixtures("threads")
def test_a_video_in_pieces_has_the_bytes_of_the_whole(tmp_path: Path) -> None:
    whole = frames(20)
    encode_video(tmp_path / "whole.mp4", whole)
    with Encoder(tmp_path / "pieces.mp4") as pieces:
        pieces.begin()
        for piece in (whole[:1], whole[1:9], whole[9:]):
            pieces.write(lambda piece=piece: piece)
        assert pieces.finish() == 20
    assert (tmp_path / "pieces.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.usefixtures("threads")
def test_a_video_that_is_begun_anew_has_none_of_the_frames_before(tmp_path: Path) -> None:
    encode_video(tmp_path / "whole.mp4", frames(5))
    with Encoder(tmp_path / "pieces.mp4") as pieces:
        pieces.begin()
        pieces.write(lambda: frames(3, side=64))
        pieces.begin()
        pieces.write(lambda: frames(5))
        assert pieces.finish() == 5
    assert (tmp_path / "pieces.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.usefixtures("threads")
def test_what_encoding_raises_is_raised_where_frames_are_written(tmp_path: Path) -> None:
    with Encoder(tmp_path / "odd.mp4") as odd:
        odd.begin()

        def write_more_than_may_wait() -> None:
            for _ in range(MAX_WAITING + 2):
                odd.write(lambda: frames(1, side=31))
            odd.finish()

        with pytest.raises(FFmpegFailed, match="a frame is 31x31; yuv420p needs even sides"):
            write_more_than_may_wait()


@pytest.mark.usefixtures("threads")
def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    with Encoder(tmp_path / "none.mp4") as none:
        none.begin()
        with pytest.raises(FFmpegFailed, match="at least one frame"):
            none.finish()


@pytest.mark.usefixtures("threads")
def test_a_video_that_is_not_finished_ends_with_the_block(tmp_path: Path) -> None:
    def fail() -> None:
        with Encoder(tmp_path / "half.mp4") as half:
            half.begin()
            half.write(lambda: frames(2))
            raise ValueError("the model failed")

    with pytest.raises(ValueError, match="the model failed"):
        fail()


@pytest.mark.usefixtures("threads")
def test_few_pieces_wait_for_a_slow_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an encoder that takes a piece only when as many as may wait, or all, have been written
    pieces = 20 * MAX_WAITING
    all_written = threading.Event()
    waiting: list[int] = []

    def slow(_: Path, taken: Iterator[Pixels]) -> int:
        for _ in taken:
            wait_for(lambda: all_written.is_set() or len(video.waiting) >= MAX_WAITING)
            waiting.append(len(video.waiting))
        return len(waiting)

    monkeypatch.setattr(encoder, "encode_video", slow)
    # When more are written
    with Encoder(tmp_path / "slow.mp4") as video:
        video.begin()
        for _ in range(pieces):
            video.write(lambda: frames(1))
        all_written.set()
        assert video.finish() == pieces
    # Then no more than that have waited
    assert max(waiting) == MAX_WAITING
