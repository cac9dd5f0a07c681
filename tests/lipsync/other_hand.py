"""A portrait in another style than the training data's: smooth outlines, other proportions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIDE, FINER = 512, 2
"""Pixels of the finished picture, and how many times finer it is drawn: shrinking makes the edges
smooth.
"""

Point = tuple[float, float]
Colour = tuple[int, int, int]

WALL = (122, 172, 178)
WOOL = (225, 139, 84)
COLLAR = (239, 164, 110)
SKIN = (241, 196, 163)
SHADE = (216, 158, 126)
BLUSH = (240, 172, 146)
HAIR = (73, 47, 43)
EYE = (253, 251, 248)
IRIS = (66, 108, 104)
PUPIL = (34, 28, 32)
LIPS = (196, 92, 88)
INSIDE = (122, 46, 52)
TEETH = (255, 252, 247)


@dataclass(frozen=True)
class Sheet:
    """An image that is drawn on in the coordinates of the finished picture."""

    paper: Image.Image

    def oval(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        ImageDraw.Draw(self.paper).ellipse([edge * FINER for edge in box], fill=colour)

    def shape(self, half: Sequence[Point], colour: Colour) -> None:
        """A symmetric shape from its right half, given from top to bottom.

        Its outline runs smoothly.
        """
        left = [(SIDE - x, y) for x, y in reversed(half) if x != SIDE / 2]
        ImageDraw.Draw(self.paper).polygon(
            [(x * FINER, y * FINER) for x, y in ring([*half, *left])], fill=colour
        )


def ring(points: Sequence[Point], steps: int = 24) -> list[Point]:
    """A closed curve through all points (Catmull-Rom)."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    corners = [np.roll(points, 1 - shift, axis=0) for shift in range(4)]
    curve = [
        b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        for a, b, c, d in zip(*corners, strict=True)
    ]
    return [(float(x), float(y)) for x, y in np.concatenate(curve)]


def portrait(opening: float) -> Image.Image:
    """A friendly face, 512 x 512, whose mouth smiles closed at 0 and is wide open at 1."""
    sheet = Sheet(Image.new("RGB", (SIDE * FINER,) * 2, WALL))
    sheet.shape(
        [
            (256, 62),
            (330, 76),
            (380, 132),
            (392, 216),
            (396, 300),
            (384, 362),
            (330, 388),
        ],
        HAIR,
    )
    sheet.shape(
        [
            (256, 392),
            (312, 396),
            (380, 418),
            (440, 450),
            (470, 520),
            (480, 600),
            (300, 640),
        ],
        WOOL,
    )
    sheet.shape([(256, 380), (318, 396), (290, 432), (256, 440)], COLLAR)
    sheet.shape([(256, 320), (300, 330), (301, 372), (310, 402), (284, 424)], SHADE)
    sheet.shape(
        [
            (256, 100),
            (318, 114),
            (354, 172),
            (356, 238),
            (340, 300),
            (304, 348),
            (272, 365),
        ],
        SKIN,
    )
    sheet.shape(
        [
            (256, 84),
            (330, 92),
            (372, 150),
            (374, 232),
            (350, 206),
            (330, 160),
            (256, 148),
        ],
        HAIR,
    )
    for side in (-1, 1):
        cheek_and_eye(sheet, 256 + side * 48, side)
    sheet.oval(256, 282, 26, 10, SHADE)
    mouth(sheet, opening)
    return sheet.paper.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def cheek_and_eye(sheet: Sheet, x: float, side: int) -> None:
    sheet.oval(x + 10 * side, 288, 42, 28, BLUSH)
    sheet.oval(x, 190, 52, 16, HAIR)
    sheet.oval(x, 196, 56, 16, SKIN)
    sheet.oval(x, 229, 52, 36, HAIR)
    sheet.oval(x, 234, 46, 34, EYE)
    sheet.oval(x, 233, 28, 30, IRIS)
    sheet.oval(x, 233, 14, 15, PUPIL)
    sheet.oval(x + 5, 227, 8, 8, EYE)


def mouth(sheet: Sheet, opening: float) -> None:
    drop = 24 * opening
    sheet.shape(
        [
            (256, 307),
            (276, 305),
            (296, 306),
            (284, 322 + drop),
            (256, 330 + 1.2 * drop),
        ],
        LIPS,
    )
    sheet.shape(
        [
            (256, 312),
            (276, 311),
            (286, 312),
            (276, 315 + drop),
            (256, 318 + 1.2 * drop),
        ],
        INSIDE,
    )
    if opening:
        sheet.shape([(256, 313), (280, 313), (270, 320), (256, 321)], TEETH)
