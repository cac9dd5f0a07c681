"""Reading with the SHA-256 compared: what is read is what was written, in every kind of store.

The digest of most objects is known elsewhere: the output of a step has those of the objects that it
names, the key of an upload is its own. An object that no output names is sealed: its first line is
the digest of the rest.
"""

from __future__ import annotations

from pathlib import Path

from farm.errors import CorruptObject
from farm.store import Store
from farm.store.keys import digest

SEAL_BYTES = 64


def fetch(store: Store, key: str, path: Path, *, sha256: str) -> Path:
    """`Store.fetch`; raises CorruptObject if the object is not what was written."""
    fetched = store.fetch(key, path)
    try:
        _compare(key, digest(fetched), sha256)
    except CorruptObject:
        fetched.unlink()
        raise
    return fetched


def get(store: Store, key: str, *, sha256: str) -> bytes:
    """`Store.get`; raises CorruptObject if the object is not what was written."""
    content = store.get(key)
    _compare(key, digest(content), sha256)
    return content


def put_sealed(store: Store, key: str, content: bytes) -> None:
    """Stores an object behind its digest."""
    store.put(key, digest(content).encode() + b"\n" + content)


def get_sealed(store: Store, key: str) -> bytes:
    """The content of a sealed object; raises KeyError, and CorruptObject if it is damaged."""
    seal, _, content = store.get(key).partition(b"\n")
    _compare(key, digest(content), seal[:SEAL_BYTES].decode("ascii", "backslashreplace"))
    return content


def _compare(key: str, found: str, expected: str) -> None:
    if found != expected:
        raise CorruptObject(f"{key} is corrupt: its SHA-256 is {found}, expected {expected!r}")
