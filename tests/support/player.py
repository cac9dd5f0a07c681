"""A player of HLS playlists, and the web server that it plays from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from farm.media.aac import first_packet
from tests.support.serving import serving

FPS = 25

OPTIONS = {
    "prefer_x_start": "1",  # start where the playlist says
    # Do not wait for 20 frames to analyse, more than the first chunk of a test has.
    "fpsprobesize": "0",
    "analyzeduration": "1",
}
"""Options of FFmpeg's HLS demuxer."""


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """The URL of a folder behind a plain web server."""
    handler = partial(QuietHandler, directory=str(folder))
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving(http):
        yield f"http://127.0.0.1:{http.server_port}"


@dataclass(frozen=True)
class Played:
    """Decoded frames and audio blocks, with the time at which each begins."""

    times: list[float]
    """In frames."""
    frames: list[bytes]
    offsets: list[int]
    """In samples."""
    blocks: list[NDArray[np.float32]]

    @property
    def audio(self) -> NDArray[np.float32]:
        """All samples [C, n]; AssertionError if there is a gap or an overlap between two blocks."""
        lengths = [block.shape[1] for block in self.blocks]
        assert self.offsets == [sum(lengths[:count]) for count in range(len(lengths))]
        return np.concatenate(self.blocks, axis=1)


def play(url: str) -> Played:
    """A playlist played to its end; waits for the rest of an open one."""
    played = Played([], [], [], [])
    with av.open(url, "r", options=OPTIONS) as player:
        for frame in player.decode(player.streams.video[0], player.streams.audio[0]):
            if isinstance(frame, av.VideoFrame):
                played.times.append(_frames(frame.pts * frame.time_base))
                played.frames.append(frame.to_ndarray().tobytes())
            else:
                played.offsets.append(frame.pts)
                played.blocks.append(frame.to_ndarray())
    return played


def packets(url: str, frames: int) -> tuple[list[float], list[int]]:
    """When the first frames begin, in frames, and the audio packets among them, in samples.

    For an open playlist, of which a decoder would wait for more.
    """
    times: list[float] = []
    offsets: list[int] = []
    with av.open(url, "r", options=OPTIONS) as player:
        for packet in player.demux(player.streams.video[0], player.streams.audio[0]):
            if packet.stream.type == "video":
                times.append(_frames(packet.pts * packet.time_base))
            else:
                offsets.append(packet.pts)
            if len(times) == frames and len(offsets) >= first_packet(frames):
                break
    return times, offsets


def _frames(seconds: float) -> float:
    return round(float(seconds * FPS), 6)
