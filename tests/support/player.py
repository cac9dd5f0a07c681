"""A player of what a playlist lists, and the web server that it plays from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import numpy as np
from numpy.typing import NDArray

from farm.media.aac import first_packet

OPTIONS = {"prefer_x_start": "1", "fpsprobesize": "0", "analyzeduration": "1"}
"""From where the list says; and without the wait for 20 frames to look at, which a test's first chunk does not have."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, behind the plainest of web servers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@dataclass(frozen=True)
class Played:
    """Frames with their times in frames, and sound with the sample at which each of its pieces begins."""

    times: list[float]
    pictures: list[bytes]
    begins: list[int]
    pieces: list[NDArray[np.float32]]

    @property
    def sound(self) -> NDArray[np.float32]:
        """All of it, [C, n], where it has neither gap nor overlap."""
        lengths = [piece.shape[1] for piece in self.pieces]
        assert self.begins == [sum(lengths[:count]) for count in range(len(lengths))]
        return np.concatenate(self.pieces, axis=1)


def play(address: str) -> Played:
    """All that a playlist gives, to its end: one that is open is waited for."""
    played = Played([], [], [], [])
    with av.open(address, "r", options=OPTIONS) as player:
        for frame in player.decode(player.streams.video[0], player.streams.audio[0]):
            if isinstance(frame, av.VideoFrame):
                played.times.append(round(float(frame.pts * frame.time_base * 25), 6))
                played.pictures.append(frame.to_ndarray().tobytes())
            else:
                played.begins.append(frame.pts)
                played.pieces.append(frame.to_ndarray())
    return played


def packets(address: str, frames: int) -> tuple[list[float], list[int]]:
    """When the first so many frames and the sound packets among them begin, in frames and in samples.

    Of an open playlist, of which a decoder would wait for more.
    """
    times: list[float] = []
    begins: list[int] = []
    with av.open(address, "r", options=OPTIONS) as player:
        for packet in player.demux(player.streams.video[0], player.streams.audio[0]):
            if packet.stream.type == "video":
                times.append(round(float(packet.pts * packet.time_base * 25), 6))
            else:
                begins.append(packet.pts)
            if len(times) == frames and len(begins) >= first_packet(frames):
                break
    return times, begins
