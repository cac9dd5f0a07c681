"""Fingerprints: twelve digits by which a person or a worker tells sets of weights apart.

They are the first digits of a SHA-256 over all bytes, so weights with equal headers differ. A file
is read once; its digest is remembered by its path, inode, size and times.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from farm.errors import PipelineLoadFailed
from farm.model.weights.folder import write_atomically

DIGITS = 12

AUDIO_PARTS = ("audio_encoder",)
VIDEO_PARTS = ("transformer", "vae", "text_encoder", "image_encoder", "tokenizer")
TEXT_PARTS = ("text_encoder", "tokenizer")
"""The parts of a checkpoint that make the embeddings, the video and the features of a prompt."""

SETTLED_S = 2.0
"""The clocks of file systems are too coarse to tell two writes within milliseconds apart."""


@dataclass(frozen=True)
class Digests:
    """The SHA-256 of files, remembered in a folder, where one is given."""

    folder: Path | None = None
    settled_s: float = SETTLED_S
    """Age of a file from which its digest is remembered."""

    def of(self, path: Path) -> str:
        """In hexadecimal. Raises PipelineLoadFailed if the file cannot be read."""
        try:
            entry = self._entry(path)
            if entry is not None and entry.is_file():
                return entry.read_text()
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise PipelineLoadFailed(f"{path} cannot be read: {error}") from error
        if entry is not None and entry == self._entry(path):
            with suppress(OSError):  # then it is computed again
                _write(entry, digest)
        return digest

    def _entry(self, path: Path) -> Path | None:
        """Where the digest of the file as it is now is remembered; None if it may yet change."""
        found = path.stat()
        changed_at = max(found.st_mtime, found.st_ctime)
        if self.folder is None or time.time() - changed_at < self.settled_s:
            return None
        state = (path.resolve(), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return self.folder / hashlib.sha256(repr(state).encode()).hexdigest()


UNREMEMBERED = Digests()
"""Digests that are always computed."""


def fingerprint(folder: Path, parts: Iterable[str], digests: Digests) -> str:
    """The fingerprint of parts of a checkpoint folder, hidden files apart.

    The versions of libraries in `config.json` do not count. Raises PipelineLoadFailed.
    """
    files = sorted(path for part in parts for path in _files(folder / part))
    with ThreadPoolExecutor() as pool:
        contents = pool.map(lambda path: _content(path, digests), files)
        lines = [
            f"{path.relative_to(folder)} {content}\n"
            for path, content in zip(files, contents, strict=True)
        ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:DIGITS]


def checkpoint_fingerprint(folder: Path, digests: Digests) -> str:
    """The fingerprint of a whole checkpoint folder, as results of jobs show it."""
    audio, video = (fingerprint(folder, parts, digests) for parts in (AUDIO_PARTS, VIDEO_PARTS))
    return joined(audio, video)


def joined(audio: str, video: str) -> str:
    """One word of the fingerprints of the embeddings' and of the video's weights."""
    return f"{audio}-{video}"


def _files(part: Path) -> list[Path]:
    try:
        found = [path for path in part.iterdir() if path.is_file()]
    except OSError as error:
        raise PipelineLoadFailed(f"{part} cannot be read: {error}") from error
    return [path for path in found if not path.name.startswith(".")]


def _content(path: Path, digests: Digests) -> str:
    if path.name != "config.json":
        return digests.of(path)
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PipelineLoadFailed(f"{path} cannot be read: {error}") from error
    versions = [name for name in config if name.startswith("_") or name == "transformers_version"]
    return json.dumps({name: config[name] for name in config.keys() - versions}, sort_keys=True)


def _write(entry: Path, digest: str) -> None:
    """Writes an entry as a whole, so that no other process reads a part of it."""
    entry.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry.parent.mkdir(exist_ok=True)
    write_atomically(entry, digest)
