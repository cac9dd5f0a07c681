"""Inputs that stay in a worker's memory, so that it fetches nothing for the next chunk of a job."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

MAX_BYTES = 512 << 20
"""Those of about ten jobs at 480."""

Input = TypeVar("Input")


class KeptInputs:
    """Values by the keys of the objects that they were read from, or stored as.

    Objects never change, so a value is good for as long as it is kept. Those used least recently
    go first.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[str, Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str, read: Callable[[], Input]) -> Input:
        """The value of an object, read unless it is in memory."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                value: Input = self._values[key]
                return value
        value = read()
        self.put(key, value)
        return value

    def put(self, key: str, value: Any) -> None:
        """Keeps the value of an object: tensors, or bytes."""
        with self._lock:
            self._bytes += size(value) - size(self._values.pop(key, ()))
            self._values[key] = value
            while self._bytes > self._max_bytes:
                _, oldest = self._values.popitem(last=False)
                self._bytes -= size(oldest)


def size(value: Any) -> int:
    """Bytes of a tensor, of bytes, of several of them, or of a record of tensors."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return sum(map(size, value))
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    return sum(map(size, vars(value).values()))
