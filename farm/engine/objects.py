"""Where the SHA-256 of a job's objects is known."""

from __future__ import annotations

from collections.abc import Callable

from farm.registry.outputs import Committed
from farm.store import keys


def sha256_of(key: str, output_of: Callable[[str], Committed | None]) -> str:
    """The SHA-256 of an upload, or of an object that a committed step stored.

    `output_of` returns the output of a step by its id. Raises LookupError if no output has it.
    """
    if key.startswith(keys.UPLOADS):
        return key.removeprefix(keys.UPLOADS)
    attempt = keys.attempt_of(key)
    committed = output_of(attempt.step_id) if attempt else None
    if committed is None or key not in committed.digests:
        raise LookupError(f"{key}: no committed output has its SHA-256")
    return committed.digests[key]
