"""Who says what in a text of two speakers: `(s1) Hello! (s2) Good morning. (s1) How are you?`"""

from __future__ import annotations

import re
from typing import NamedTuple

MARK = re.compile(r"\(s([0-9]+)\)", re.IGNORECASE)


class Turn(NamedTuple):
    """What speaker 1 or 2 says before the other one speaks, or before the same one is marked again."""

    speaker: int
    text: str


def has_turns(text: str) -> bool:
    """Whether the text holds a speaker's mark."""
    return MARK.search(text) is not None


def turns(text: str) -> list[Turn]:
    """The text's turns in their order. ValueError, as a sentence, unless each word has its speaker and both speak."""
    before, *marked = MARK.split(text)
    if before.strip():
        raise ValueError(f"{before.strip()[:40]!r} stands before the first mark; every word needs (s1) or (s2)")
    found: list[Turn] = []
    for number, words in zip(marked[::2], marked[1::2], strict=True):
        if number not in ("1", "2"):
            raise ValueError(f"the mark (s{number}) is unknown; there are (s1) and (s2)")
        if not words.strip():
            raise ValueError(f"turn {len(found) + 1}, of (s{number}), holds no words")
        found.append(Turn(int(number), words.strip()))
    if missing := {1, 2} - {turn.speaker for turn in found}:
        raise ValueError(f"(s{min(missing)}) says nothing; two speakers need a turn each")
    return found
