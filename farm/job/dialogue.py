"""Dialogue: the turns of two speakers, as in `(s1) Hello! (s2) Good morning. (s1) How are you?`"""

from __future__ import annotations

import re
from typing import NamedTuple

from farm.errors import shorten

MARK = re.compile(r"\(s([0-9]+)\)(?:\s*[:：])?", re.IGNORECASE)
"""A speaker's mark, with the colon that scripts put behind it, which would be read aloud."""


class Turn(NamedTuple):
    """The text that a speaker, 1 or 2, says between two marks."""

    speaker: int
    text: str


def has_turns(text: str) -> bool:
    """Whether the text contains a speaker's mark."""
    return MARK.search(text) is not None


def turns(text: str) -> list[Turn]:
    """The turns of a dialogue, in order.

    Raises ValueError unless every word has a speaker and both speakers speak.
    """
    preamble, *marked = MARK.split(text)
    if preamble.strip():
        start = preamble.strip()[:40]
        raise ValueError(f"{start!r} precedes the first mark; every word needs (s1) or (s2)")
    found: list[Turn] = []
    for number, words in zip(marked[::2], marked[1::2], strict=True):
        if number not in ("1", "2"):
            raise ValueError(f"the mark (s{shorten(number)}) is unknown; allowed: (s1) and (s2)")
        if not words.strip():
            raise ValueError(f"turn {len(found) + 1}, of (s{number}), has no text")
        found.append(Turn(int(number), words.strip()))
    missing = {1, 2} - {turn.speaker for turn in found}
    if missing:
        raise ValueError(f"(s{min(missing)}) has no turn; two speakers need one each")
    return found
