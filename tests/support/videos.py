"""Finished videos of a local store, decoded."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import av


def local_path(url: str) -> Path:
    """The file behind a URL of a local store."""
    return Path(unquote(urlsplit(url).path))


def decoded_frames(url: str) -> list[bytes]:
    """The pixels of every frame, to compare videos with."""
    with av.open(str(local_path(url))) as video:
        return [frame.to_ndarray().tobytes() for frame in video.decode(video=0)]
