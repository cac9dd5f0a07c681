"""The disk that files of requests take until their jobs are submitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farm.engine.scratch import scratch_folder
from farm.errors import UploadFailed
from farm.gateway.refusal import RETRY_S, Refusal, refuse, retry_after


class Room:
    """At most `max_bytes` for all uploads at once, and half of that for those of one caller."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._share = max_bytes // 2
        self._taken: Counter[str] = Counter()

    @contextmanager
    def upload(self, caller: str) -> Iterator[Upload]:
        """A folder for the files of one request, which is removed when the block ends."""
        with scratch_folder("upload") as folder:
            upload = Upload(self, caller, folder)
            try:
                yield upload
            finally:
                self._taken[caller] -= upload.size

    def take(self, caller: str, size: int) -> None:
        """Raises Refusal 503 if there is no room for that many more bytes."""
        is_full = self._taken.total() + size > self._max_bytes
        if is_full or self._taken[caller] + size > self._share:
            error = UploadFailed("too many files arrive at once; try again later")
            raise Refusal(503, error, retry_after(RETRY_S))
        self._taken[caller] += size

    def check(self, size: int) -> None:
        """Raises Refusal 413 for an upload that could never have room."""
        if size > self._share:
            raise refuse(413, f"body: it is too long; allowed: {self._share:,} bytes")


@dataclass
class Upload:
    """The files of one request."""

    room: Room
    caller: str
    folder: Path
    size: int = 0

    def take(self, size: int) -> None:
        """Counts bytes that have come; raises Refusal if there is no room for them."""
        self.room.check(self.size + size)
        self.room.take(self.caller, size)
        self.size += size
