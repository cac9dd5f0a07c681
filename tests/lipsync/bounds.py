"""How well the shipped miniature has to do: never worse than `docs/miniature.md` aims at, and mostly better.

Each is strict enough that a fault of the farm breaks one of them: sound that comes four frames late or not at all,
chunks that forget the one before, exchanged speakers, exchanged chunks.
"""

CORRELATION = 0.93
"""Of the mouth with the voice; at least."""
LAST_CORRELATION = 0.9
"""In the last chunk; at least."""
LAG = 0
"""Frames; at most, either way."""
WRONG_VOICE = 0.15
"""Correlation with what somebody else says; at most."""
SILENCE = 0.02
"""Movement of a mouth that has nothing to say, as a share of a talking one's; at most."""
CODEC = 0.01
"""Correlation that H.264 costs; at most."""

IDENTITY_DB = 30
"""Likeness to the picture outside the mouth; at least."""
WORST_DB = 28
"""The same of the worst frame; at least."""
FIRST_DB = 1.5
"""How far the first frame is from the mean; at most."""
LOST_DB = 1.5
"""What the last chunk has lost against the first; at most."""
DRIFT = 0.01
"""Share of full scale that the last chunk's colours are off; at most."""
SEAM = 1.6
"""Change across a chunk's border, in multiples of what only one change in a hundred exceeds elsewhere; at most."""
JUMP = 0.2
"""Share of its way that somebody jumps across a border because the source did; at most."""

OWN_VOICE = 0.93
"""Correlation of each of two mouths with its speaker; at least."""
OTHER_VOICE = 0
"""The same with the other one; at most."""
LISTENING = 0.1
"""Movement of a mouth while the other one speaks, as a share of its own turn's; at most."""

OTHER_HAND = 0.9
"""Correlation where the portrait was drawn otherwise than those of the lessons; at least."""
