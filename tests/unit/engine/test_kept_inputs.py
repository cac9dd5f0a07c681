"""Inputs in a worker's memory: read once, bounded in bytes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from farm.engine.kept_inputs import KeptInputs, size


@dataclass(frozen=True)
class Record:
    first: torch.Tensor
    second: torch.Tensor


def unread() -> bytes:
    raise AssertionError("it is in memory")


def test_an_input_is_read_once() -> None:
    kept = KeptInputs()
    assert kept.get("key", lambda: b"value") == b"value"
    assert kept.get("key", unread) == b"value"


def test_what_was_stored_is_not_read() -> None:
    kept = KeptInputs()
    kept.put("key", b"value")
    assert kept.get("key", unread) == b"value"


def test_what_was_used_least_recently_leaves_a_full_memory_first() -> None:
    kept = KeptInputs(max_bytes=10)
    kept.put("a", bytes(4))
    kept.put("b", bytes(4))
    kept.get("a", unread)
    kept.put("c", bytes(4))
    assert len(kept.get("a", unread)) == len(kept.get("c", unread)) == 4
    assert kept.get("b", lambda: b"again") == b"again"


def test_a_value_put_twice_counts_once() -> None:
    kept = KeptInputs(max_bytes=10)
    for _ in range(5):
        kept.put("a", bytes(4))
    kept.put("b", bytes(6))
    assert (len(kept.get("a", unread)), len(kept.get("b", unread))) == (4, 6)


def test_a_value_larger_than_the_memory_is_not_kept() -> None:
    kept = KeptInputs(max_bytes=10)
    assert len(kept.get("a", lambda: bytes(11))) == 11
    assert kept.get("a", lambda: b"again") == b"again"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"abc", 3),
        ([b"abc", b"d"], 4),
        (torch.zeros(5), 20),
        (Record(torch.zeros(5), torch.zeros(2, dtype=torch.uint8)), 22),
    ],
    ids=["bytes", "list", "tensor", "record"],
)
def test_bytes_of_a_value(value: object, expected: int) -> None:
    assert size(value) == expected
