"""What is read is what was written, in every kind of store."""

from __future__ import annotations

import pytest

from farm.errors import CorruptObject
from farm.store import integrity
from farm.store.keys import digest
from farm.store.memory import MemoryStore

SHA256 = digest(b"written")


def test_an_object_is_read_as_it_was_written(store, tmp_path):
    store.put("key", b"written")
    assert integrity.get(store, "key", sha256=SHA256) == b"written"
    path = integrity.fetch(store, "key", tmp_path / "file", sha256=SHA256)
    assert path.read_bytes() == b"written"


def test_other_bytes_than_were_written_are_refused_with_both_digests(store, tmp_path):
    store.put("key", b"damaged")
    message = f"key is corrupt: its SHA-256 is {digest(b'damaged')}, expected '{SHA256}'"
    with pytest.raises(CorruptObject, match=message):
        integrity.get(store, "key", sha256=SHA256)
    with pytest.raises(CorruptObject, match=message):
        integrity.fetch(store, "key", tmp_path / "file", sha256=SHA256)
    assert not (tmp_path / "file").exists()
    assert store.get("key") == b"damaged"


def test_a_missing_object_is_not_a_corrupt_one(store, tmp_path):
    with pytest.raises(KeyError):
        integrity.get_sealed(store, "key")
    with pytest.raises(KeyError):
        integrity.fetch(store, "key", tmp_path / "file", sha256=SHA256)


@pytest.mark.parametrize("content", [b"", b"written", b"\n", b"two\nlines\n", bytes(range(256))])
def test_a_sealed_object_is_read_as_it_was_written(store, content):
    integrity.put_sealed(store, "key", content)
    assert integrity.get_sealed(store, "key") == content
    assert store.get("key").partition(b"\n")[0] == digest(content).encode()


def test_a_sealed_object_with_any_bit_flipped_is_refused():
    store = MemoryStore()
    integrity.put_sealed(store, "key", b"written\n")
    sealed = store.get("key")
    for bit in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        store.put("key", bytes(damaged))
        with pytest.raises(CorruptObject):
            integrity.get_sealed(store, "key")


@pytest.mark.parametrize("content", [b"", b"written", b"\x1b]0;title\x07\nwritten"])
def test_what_was_never_sealed_is_refused_without_control_characters(store, content):
    store.put("key", content)
    with pytest.raises(CorruptObject) as caught:
        integrity.get_sealed(store, "key")
    assert caught.value.message.isprintable()
