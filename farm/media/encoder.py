"""H.264 encoding in a thread, while the next frames are made."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from pathlib import Path
from types import TracebackType
from typing import Self

from farm.media.frame import Pixels
from farm.media.video import encode_video

MAX_WAITING = 4
"""Pieces that wait for the encoder at most. One of four frames is 11 MB at 960x960."""

Piece = Callable[[], Pixels]
"""Some frames, uint8 [F, H, W, 3]; the call waits until a GPU has copied them."""


class Encoder:
    """Encodes one video into a file; `write` returns before the frames are encoded.

    A context manager: what was begun and not finished is abandoned at its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = threading.Condition()
        self.waiting: deque[Piece] = deque()
        self._is_complete = False
        self._is_abandoned = False
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._encoding: Future[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._abandon()
        self._threads.shutdown()

    def begin(self) -> None:
        """Begins the video, or begins it anew."""
        self._abandon()
        self.waiting.clear()
        self._is_complete = self._is_abandoned = False
        self._encoding = self._threads.submit(copy_context().run, self._encode)
        self._encoding.add_done_callback(lambda _: self._notify())

    def write(self, piece: Piece) -> None:
        """Adds frames; waits while MAX_WAITING pieces do. Raises what encoding has raised."""
        encoding = self._begun
        with self._changed:
            self._changed.wait_for(lambda: len(self.waiting) < MAX_WAITING or encoding.done())
            self.waiting.append(piece)
            self._changed.notify_all()
        if encoding.done():
            encoding.result()

    def finish(self) -> int:
        """How many frames the file has, once all are encoded; raises as `encode_video`."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()
        return self._begun.result()

    @property
    def _begun(self) -> Future[int]:
        if self._encoding is None:
            raise RuntimeError("no video was begun")
        return self._encoding

    def _abandon(self) -> None:
        if self._encoding is None:
            return
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()
        wait([self._encoding])

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _encode(self) -> int:
        return encode_video(self.path, self._frames())

    def _frames(self) -> Iterator[Pixels]:
        while (piece := self._next()) is not None:
            yield from piece()

    def _next(self) -> Piece | None:
        with self._changed:
            self._changed.wait_for(lambda: self.waiting or self._is_complete or self._is_abandoned)
            if self._is_abandoned:
                raise _Abandoned
            piece = self.waiting.popleft() if self.waiting else None
            self._changed.notify_all()
            return piece


class _Abandoned(Exception):
    """No more frames of this video will come."""
