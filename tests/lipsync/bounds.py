"""How well the shipped miniature has to do: what is aimed at, and what the weights of today are held to.

Weights that do better raise the second number. Each is strict enough that a fault of the farm breaks one of them: sound
that comes four frames late or not at all, chunks that forget the one before, exchanged speakers, exchanged chunks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    aim: float
    held: float


CORRELATION = Bound(aim=0.93, held=0.88)
"""Of the mouth with the voice; at least."""
LAST_CORRELATION = Bound(aim=0.9, held=0.9)
"""In the last chunk; at least."""
LAG = Bound(aim=0, held=0)
"""Frames; at most, either way."""
WRONG_VOICE = Bound(aim=0.2, held=0.2)
"""Correlation with what somebody else says; at most."""
SILENCE = Bound(aim=0.05, held=0.03)
"""Movement of a mouth that has nothing to say, as a share of a talking one's; at most."""
CODEC = Bound(aim=0.01, held=0.01)
"""Correlation that H.264 costs; at most."""

IDENTITY_DB = Bound(aim=27, held=30)
"""Likeness to the picture outside the mouth; at least."""
WORST_DB = Bound(aim=24, held=28)
"""The same of the worst frame; at least."""
FIRST_DB = Bound(aim=2, held=2)
"""How far the first frame is from the mean; at most."""
LOST_DB = Bound(aim=1.5, held=2.5)
"""What the last chunk has lost against the first; at most."""
DRIFT = Bound(aim=0.03, held=0.03)
"""Share of full scale that the last chunk's colours are off; at most."""
SEAM = Bound(aim=1, held=2)
"""Change across a chunk's border, in multiples of what only one change in a hundred exceeds elsewhere; at most."""
JUMP = Bound(aim=0.3, held=0.3)
"""Share of its way that somebody jumps across a border because the source did; at most."""

OWN_VOICE = Bound(aim=0.85, held=0.9)
"""Correlation of each of two mouths with its speaker; at least."""
OTHER_VOICE = Bound(aim=0.2, held=0.2)
"""The same with the other one; at most."""
LISTENING = Bound(aim=0.2, held=0.15)
"""Movement of a mouth while the other one speaks, as a share of its own turn's; at most."""

OTHER_HAND = Bound(aim=0.7, held=0.9)
"""Correlation where the portrait was drawn otherwise than those of the lessons; at least."""
