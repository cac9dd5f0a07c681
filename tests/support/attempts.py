"""Ids of attempts that a test can foresee."""

from __future__ import annotations

import re

from farm.registry.attempt_id import make_attempt_id


def attempt(fence: int) -> str:
    """The id of an invented attempt with a fencing token."""
    return make_attempt_id(fence, "0")


FIRST = attempt(1)


def foreseeable(text: str) -> str:
    """A text whose ids of attempts are those of invented ones."""
    return re.sub(r"/(\d{4,})-[0-9a-f]+/", r"/\1-0/", text)
