"""Makes the examples' media, always the same: drawn faces and spoken sentences.

python -m examples.make_media
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from farm.media.speech import speak

FOLDER = Path(__file__).parent

SENTENCE = (
    "Hello! Give this farm a face and a voice, and it makes a talking video of them. "
    "A long speech is cut into chunks, and each chunk goes on from the last."
)

QUESTION, ANSWER = "Who are you, and who drew the two of us?", "I am the second voice. A program drew us both."
"""What the first and the second of a couple say."""

SIDE, FINER = 512, 4
"""Pixels of the finished picture, and how many times finer it is drawn: shrinking makes the edges smooth."""

Point = tuple[float, float]
Colour = tuple[int, int, int]

WALL, LIGHT = (122, 172, 178), (214, 226, 208)
SKIN, SKIN_DARK, SKIN_LIGHT, BLUSH = (241, 196, 163), (216, 158, 126), (250, 215, 187), (231, 134, 116)
HAIR, HAIR_LIGHT = (73, 47, 43), (112, 73, 60)
EYE, IRIS, IRIS_LIGHT, PUPIL = (253, 251, 248), (66, 108, 104), (118, 160, 148), (34, 28, 32)
LIPS, LIPS_DARK, TEETH = (196, 92, 88), (122, 46, 52), (255, 252, 247)
WOOL, WOOL_DARK, WOOL_LIGHT = (225, 139, 84), (199, 113, 66), (239, 164, 110)

OTHER_DYES = {
    HAIR: (188, 132, 66),
    HAIR_LIGHT: (224, 178, 104),
    WOOL: (84, 112, 168),
    WOOL_DARK: (62, 86, 138),
    WOOL_LIGHT: (122, 148, 196),
    IRIS: (92, 70, 50),
    IRIS_LIGHT: (146, 112, 78),
}
"""What tells the second of a couple from the first."""


@dataclass(frozen=True)
class Sheet:
    """A sheet of paper, drawn upon in the coordinates of the finished picture; `dyes` take the place of colours."""

    paper: Image.Image
    dyes: Mapping[Colour, Colour] = field(default_factory=dict)

    def oval(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        ImageDraw.Draw(self.paper).ellipse([edge * FINER for edge in box], fill=self.dyes.get(colour, colour))

    def shape(self, points: Sequence[Point], colour: Colour) -> None:
        """A closed shape whose outline runs smoothly through the points."""
        outline = smooth([points[-1], *points, *points[:2]])
        ImageDraw.Draw(self.paper).polygon(
            [(x * FINER, y * FINER) for x, y in outline], fill=self.dyes.get(colour, colour)
        )

    def stroke(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A smooth line through the points, thin at both ends."""
        line = smooth([points[0], *points, points[-1]])
        for (x, y), place in zip(line, np.linspace(-1, 1, len(line)), strict=True):
            thickness = width * (1 - 0.6 * place**2)
            self.oval(x, y, thickness, thickness, colour)

    def cloud(self, x: float, y: float, width: float, height: float, colour: Colour, strength: float) -> None:
        """An oval without an edge."""
        mask = Sheet(Image.new("RGB", self.paper.size))
        mask.oval(x, y, width, height, (round(255 * strength),) * 3)
        soft = mask.paper.convert("L").filter(ImageFilter.GaussianBlur(8 * FINER))
        self.paper.paste(colour, (0, 0), soft)


def smooth(points: Sequence[Point], steps: int = 24) -> list[Point]:
    """A curve through all points but the first and the last, which only bend its ends (Catmull-Rom)."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve = []
    for a, b, c, d in zip(*(np.array(points[i:]) for i in range(4)), strict=False):
        curve.append(b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))
    return [(float(x), float(y)) for x, y in np.concatenate(curve)]


def mirrored(points: Sequence[Point]) -> list[Point]:
    return [(SIDE - x, y) for x, y in points]


def both(points: Sequence[Point]) -> list[Point]:
    """A symmetric outline from its right half, given from top to bottom."""
    left = [point for point in mirrored(points)[::-1] if point not in points]
    return [*points, *left]


def couple() -> Image.Image:
    """Two friendly faces side by side, 640 x 320."""
    side = 320
    together = Image.new("RGB", (2 * side, side))
    for place, one in enumerate((portrait(), ImageOps.mirror(portrait(OTHER_DYES)))):
        together.paste(one.resize((side, side), Image.Resampling.LANCZOS), (place * side, 0))
    return together


def portrait(dyes: Mapping[Colour, Colour] | None = None) -> Image.Image:
    """A friendly face, 512 x 512, looking at us."""
    sheet = Sheet(Image.new("RGB", (SIDE * FINER,) * 2, WALL), dyes or {})
    for draw in (wall, hair_behind, shoulders, neck, ears, face, cheeks, eyes, brows, nose, mouth, fringe):
        draw(sheet)
    return sheet.paper.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def wall(sheet: Sheet) -> None:
    for size in range(120, 600, 40):
        sheet.cloud(256, 210, size, size, LIGHT, 0.12)


def hair_behind(sheet: Sheet) -> None:
    sheet.shape(
        both([(256, 62), (330, 76), (380, 132), (392, 216), (396, 300), (384, 362), (330, 388), (280, 380)]), HAIR
    )


def shoulders(sheet: Sheet) -> None:
    sheet.shape(both([(256, 392), (312, 396), (380, 418), (440, 450), (470, 520), (480, 600), (300, 640)]), WOOL)
    fold = [(404, 452), (396, 490), (400, 530)]
    sheet.stroke(fold, 4, WOOL_DARK)
    sheet.stroke(mirrored(fold), 4, WOOL_DARK)


def neck(sheet: Sheet) -> None:
    sheet.shape(both([(256, 320), (300, 330), (301, 372), (310, 402), (284, 424)]), SKIN)
    sheet.cloud(256, 364, 62, 26, SKIN_DARK, 0.9)
    sheet.stroke([(196, 396), (222, 420), (256, 430), (290, 420), (316, 396)], 30, WOOL_LIGHT)


def ears(sheet: Sheet) -> None:
    for x in (154, SIDE - 154):
        sheet.oval(x, 240, 36, 58, SKIN)
        sheet.oval(x, 242, 18, 34, SKIN_DARK)


def face(sheet: Sheet) -> None:
    sheet.shape(both([(256, 100), (318, 114), (354, 172), (356, 238), (340, 300), (304, 348), (272, 365)]), SKIN)
    sheet.cloud(256, 160, 110, 60, SKIN_LIGHT, 0.6)


def cheeks(sheet: Sheet) -> None:
    for x in (192, SIDE - 192):
        sheet.cloud(x, 286, 46, 34, BLUSH, 0.5)


def eyes(sheet: Sheet) -> None:
    for x in (208, SIDE - 208):
        sheet.oval(x, 232, 46, 37, EYE)
        sheet.oval(x, 232, 28, 30, IRIS)
        sheet.oval(x, 237, 20, 18, IRIS_LIGHT)
        sheet.oval(x, 232, 14, 15, PUPIL)
        sheet.oval(x + 5, 226, 8, 8, EYE)
        lid = [(x - 26, 233), (x - 17, 221), (x, 215), (x + 17, 221), (x + 26, 233)]
        sheet.shape([*lid, (x, 206)], SKIN)
        sheet.stroke(lid, 7, HAIR)


def brows(sheet: Sheet) -> None:
    brow = [(180, 198), (196, 187), (216, 185), (234, 192)]
    sheet.stroke(brow, 9, HAIR)
    sheet.stroke(mirrored(brow), 9, HAIR)


def nose(sheet: Sheet) -> None:
    sheet.cloud(256, 262, 12, 34, SKIN_LIGHT, 0.7)
    sheet.stroke([(243, 276), (248, 284), (256, 286), (264, 284), (269, 276)], 5, SKIN_DARK)


def mouth(sheet: Sheet) -> None:
    sheet.shape(
        [(218, 308), (240, 309), (256, 311), (272, 309), (294, 308), (280, 328), (256, 336), (232, 328)], LIPS_DARK
    )
    sheet.shape([(228, 311), (256, 313), (284, 311), (276, 319), (256, 321), (236, 319)], TEETH)
    sheet.stroke([(216, 307), (240, 308), (256, 311), (272, 308), (296, 307)], 6, LIPS)
    sheet.stroke([(224, 320), (238, 332), (256, 337), (274, 332), (288, 320)], 8, LIPS)


def fringe(sheet: Sheet) -> None:
    sheet.shape([(300, 84), (210, 72), (150, 130), (140, 230), (160, 214), (180, 168), (240, 150), (300, 104)], HAIR)
    sheet.shape([(280, 84), (340, 96), (372, 150), (374, 232), (352, 210), (340, 166), (300, 128)], HAIR)
    for lock in ([(282, 96), (224, 104), (182, 140), (166, 186)], [(306, 100), (338, 124), (356, 170)]):
        sheet.stroke(lock, 6, HAIR_LIGHT)


def main() -> None:
    portrait().save(FOLDER / "portrait.png", optimize=True)
    couple().save(FOLDER / "couple.png", optimize=True)
    speak(SENTENCE, FOLDER / "speech.wav")
    speak(QUESTION, FOLDER / "question.wav")
    speak(ANSWER, FOLDER / "answer.wav", voice="en-gb+f3")


if __name__ == "__main__":
    main()
