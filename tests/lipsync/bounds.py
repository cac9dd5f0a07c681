"""The least that the shipped miniature must reach: never below the aims of `docs/miniature.md`.

They are strict enough for each of these faults of the farm to fail a test: sound that is four
frames late or missing, chunks that forget the one before, exchanged speakers, exchanged chunks.
"""

CORRELATION = 0.93
"""Of the mouth with the voice; at least."""
LAST_CORRELATION = 0.9
"""In the last chunk; at least."""
LAG = 0
"""Frames; at most, either way."""
WRONG_VOICE = 0.15
"""Correlation with another voice; at most."""
SILENCE = 0.02
"""Movement of a mouth in silence, as a share of a talking one's; at most."""
CODEC = 0.01
"""Correlation that H.264 costs; at most."""

IDENTITY_DB = 30
"""PSNR against the picture outside the mouth; at least."""
WORST_DB = 28
"""The same of the worst frame; at least."""
FIRST_DB = 1.5
"""Difference of the first frame from the mean; at most."""
LOST_DB = 1.5
"""Difference of the last chunk from the first; at most."""
DRIFT = 0.01
"""Colour difference of the last chunk, as a share of full scale; at most."""
SEAM = 1.6
"""Change across a chunk's border, in multiples of what only one change in a hundred exceeds
elsewhere; at most.
"""
JUMP = 0.2
"""Share of the source's jump that is seen at a border of chunks; at most."""

OWN_VOICE = 0.93
"""Correlation of each of two mouths with its speaker; at least."""
OTHER_VOICE = 0
"""The same with the other one; at most."""
LISTENING = 0.1
"""Movement of a mouth while the other one speaks, as a share of that while it speaks; at most."""

OTHER_HAND = 0.9
"""Correlation for a portrait in another style than those of the training; at least."""
