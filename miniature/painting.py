"""People as pixels: layers of soft-edged shapes, painted in batches on any device.

Shapes: B pictures, F frames, H W pixels. A shape is a signed distance [B, F, H, W], negative
inside; its edge is as soft as one pixel, so nothing has to be drawn finer and shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from miniature.acting import Pose
from miniature.face import Background, Face

INSIDE = (0.14, 0.03, 0.05)
TOOTH = (0.97, 0.95, 0.92)
TONGUE = (0.80, 0.36, 0.36)
WHITE = (0.985, 0.98, 0.97)
PUPIL = (0.10, 0.09, 0.10)
INK = (0.17, 0.13, 0.14)


@dataclass(frozen=True)
class HeadPosition:
    """The middle of a head and half its height, [B], in halves of the picture's shorter side."""

    x: Tensor
    y: Tensor
    size: Tensor


def grid(height: int, width: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """x [1, 1, 1, W] and y [1, 1, H, 1] of the pixels' middles.

    In halves of the shorter side, from the centre.
    """
    half = min(height, width) / 2
    x = (torch.arange(width, device=device) + 0.5 - width / 2) / half
    y = (torch.arange(height, device=device) + 0.5 - height / 2) / half
    return x.view(1, 1, 1, -1), y.view(1, 1, -1, 1)


class Canvas:
    """Pictures that are being painted; `pixels` is [B, 3, F, H, W] in [0, 1]."""

    def __init__(self, background: Background, height: int, width: int) -> None:
        self.x, self.y = grid(height, width, background.colours.device)
        self.pixel = 2 / min(height, width)
        colours = background.colours[..., None, None, None]
        wall, wall_end, thing, other = colours.unbind(1)
        angle = _broadcast(background.direction)
        slope = (0.5 + 0.35 * (self.x * angle.cos() + self.y * angle.sin())).clamp(0, 1)
        self.pixels = torch.lerp(wall, wall_end, slope[:, None])
        for index, colour in ((0, thing), (1, other), (2, thing)):
            thing_shape = background.things[:, index, :, None, None, None]
            x, y, wide, high = thing_shape.unbind(1)
            dx = self.x - x
            dy = self.y - y
            shape = torch.where(
                _broadcast(background.roundness) > 0,
                oval(dx, dy, wide, high),
                block(dx, dy, wide, high),
            )
            self.paint(colour.view(-1, 3), shape, strength=0.8)

    def paint(
        self,
        colour: Tensor | tuple[float, ...],
        shape: Tensor,
        *,
        soft: float = 0,
        strength: Tensor | float = 1,
    ) -> None:
        """Covers the inside of a shape; `soft` widens its edge, in the picture's units."""
        paint = torch.as_tensor(colour, device=shape.device).view(-1, 3, 1, 1, 1)
        opacity = self.cover(shape, soft) * strength
        self.pixels = torch.lerp(self.pixels, paint, opacity[:, None])

    def cover(self, shape: Tensor, soft: float = 0) -> Tensor:
        """How much of each pixel lies inside, 0..1."""
        return (0.5 - shape / (self.pixel + soft)).clamp(0, 1)


def oval(x: Tensor, y: Tensor, wide: Tensor | float, high: Tensor | float) -> Tensor:
    """An ellipse of these half axes; exact at the edge, to first order near it.

    Far beside a flat one the first order is too small; the rectangle round it is a better bound.
    """
    u = x / wide
    v = y / high
    value = u * u + v * v - 1
    near = value / (2 * torch.sqrt((u / wide) ** 2 + (v / high) ** 2) + 1e-6)
    return torch.maximum(near, block(x, y, wide, high))


def block(x: Tensor, y: Tensor, wide: Tensor | float, high: Tensor | float) -> Tensor:
    """A rectangle of these half sides."""
    return torch.maximum(x.abs() - wide, y.abs() - high)


def band(x: Tensor, y: Tensor, wide: Tensor | float, thick: Tensor | float) -> Tensor:
    """A horizontal stroke with round ends."""
    return torch.hypot((x.abs() - wide).clamp(min=0), y) - thick


def paint_person(canvas: Canvas, face: Face, where: HeadPosition, pose: Pose) -> None:
    """Paints one person a picture; head and neck move, the shoulders do not."""
    size = _broadcast(where.size)
    face = Face(
        **{
            name: _broadcast(each) if each.ndim == 1 else each  # colours are [B, 3]
            for name, each in vars(face).items()
        }
    )
    sx = (canvas.x - _broadcast(where.x)) / size
    sy = (canvas.y - _broadcast(where.y)) / size
    angle = pose.tilt[..., None, None]
    dx = sx - pose.x[..., None, None]
    dy = sy - pose.y[..., None, None] - 0.8
    # The head turns about the throat, 0.8 below its middle.
    x = dx * angle.cos() + dy * angle.sin()
    y = dy * angle.cos() - dx * angle.sin() + 0.8
    brush = _Brush(canvas, size)
    _paint_hair_behind(brush, face, x, y)
    _paint_body(brush, face, sx, sy)
    _paint_head(brush, face, x, y)
    _paint_eyes(brush, face, x, y, pose)
    _paint_mouth(brush, face, x, y, pose)
    _paint_hair(brush, face, x, y)
    _paint_glasses(brush, face, x, y)


@dataclass(frozen=True)
class _Brush:
    """Paints shapes whose distances are in units of a head."""

    canvas: Canvas
    size: Tensor

    def __call__(
        self,
        colour: Tensor | tuple[float, ...],
        shape: Tensor,
        *,
        soft: float = 0,
        strength: Tensor | float = 1,
    ) -> None:
        self.canvas.paint(colour, shape * self.size, soft=soft, strength=strength)

    def cover(self, shape: Tensor) -> Tensor:
        return self.canvas.cover(shape * self.size)


def _outline(face: Face, x: Tensor, y: Tensor) -> Tensor:
    """A head: an egg that narrows towards the chin."""
    return oval(x / (1 - face.jaw * y.clamp(-0.2, 1.2)), y, face.breadth, 1.0)


def _paint_hair_behind(brush: _Brush, face: Face, x: Tensor, y: Tensor) -> None:
    long = face.locks
    curtain = oval(x, y - 0.35 * long + 0.1, face.breadth + 0.16, 0.95 + 0.42 * long)
    brush(face.hair * 0.9, curtain, strength=(long > 0).float())


def _paint_body(brush: _Brush, face: Face, x: Tensor, y: Tensor) -> None:
    brush(face.shade, block(x, y - 1.0, face.neck, 0.45))
    shoulders = oval(x, y - 2.35, face.shoulders, 1.2)
    chest = block(x, y - 5.35, face.shoulders, 3.0)
    brush(face.shirt, torch.minimum(shoulders, chest))
    brush(face.collar, oval(x, y - 1.22, face.neck + 0.12, 0.14))
    brush(face.shade, oval(x, y - 1.16, face.neck - 0.01, 0.12))


def _paint_head(brush: _Brush, face: Face, x: Tensor, y: Tensor) -> None:
    for side in (-1, 1):
        ear = oval(x - side * face.breadth, y - 0.05, 0.06 + 0.5 * face.ears, 0.17)
        brush(face.skin, ear)
        brush(face.shade, ear + 0.06)
    head = _outline(face, x, y)
    brush(INK, head - face.outline, strength=(face.outline > 0).float())
    brush(face.skin, head)
    within = brush.cover(head)
    brush(face.shade, 0.55 - face.light * x, soft=0.25, strength=0.5 * within)
    for side in (-1, 1):
        cheek = oval(x - side * 0.42, y - 0.3, 0.16, 0.12)
        brush(face.blush, cheek, soft=0.1, strength=0.8 * within)
    beard_line = face.mouth_height + 0.16 - face.beard
    jaw = torch.maximum(head, beard_line - y - 0.6 * (x / face.breadth) ** 4)
    brush(face.hair, jaw, soft=0.03, strength=(face.beard > 0).float())
    brush(face.shade, oval(x, y - 0.22, face.nose, 0.055))
    brush(face.skin, oval(x, y - 0.195, face.nose * 0.8, 0.045))


def _paint_eyes(brush: _Brush, face: Face, x: Tensor, y: Tensor, pose: Pose) -> None:
    lids = pose.lids[..., None, None]
    lift = pose.brows[..., None, None]
    wide = face.eye_size
    high = face.eye_size * face.eye_round
    for side in (-1, 1):
        ex = x - side * face.eye_apart
        ey = y - face.eye_height
        # A lid that falls takes the upper edge of the eye down to two thirds of its height.
        open_high = high * (0.06 + 0.94 * lids)
        low = ey - 0.35 * high * (1 - lids)
        ball = oval(ex, low, wide, open_high)
        brush(WHITE, ball)
        iris = torch.hypot(ex, ey + 0.06 * high) - 0.74 * high
        brush(face.iris, torch.maximum(iris, ball))
        brush(PUPIL, torch.maximum(iris + 0.3 * high, ball))
        shine = torch.hypot(ex - 0.2 * high, ey + 0.25 * high) - 0.17 * high
        brush(WHITE, torch.maximum(shine, ball))
        lash = torch.maximum(ball.abs() - face.lashes, low - 0.25 * open_high)
        brush(INK, lash, strength=0.9)
        by = ey + face.brow_height + lift + side * face.brow_tilt * ex - 1.4 * ex * ex
        brush(face.hair * 0.8, band(ex, by, wide * 0.95, face.brow_thick))


def _paint_mouth(brush: _Brush, face: Face, x: Tensor, y: Tensor, pose: Pose) -> None:
    """Lips round a dark inside with teeth and a tongue; closed, a line that may smile."""
    opening = pose.opening[..., None, None]
    spread = pose.spread[..., None, None]
    wide = face.mouth_width * (1 + 0.22 * spread) * (1 - 0.12 * opening)
    gape = face.mouth_gape * opening
    bend = (
        y
        - face.mouth_height
        + face.smile * 0.22 * (x * x / face.mouth_width - 0.4 * face.mouth_width)
    )
    my = bend - 0.55 * gape  # the jaw falls more than the lip rises
    moustache = band(x, bend + 0.11, face.mouth_width * 0.9, face.moustache)
    brush(face.hair, moustache, strength=(face.moustache > 0).float())
    brush(
        face.lips,
        oval(x, my, wide + 0.4 * face.lip_thick, gape + face.lip_thick),
    )
    inside = oval(x, my, wide * 0.88, gape + 0.004)
    brush(INSIDE, inside, strength=(opening > 0.02).float())
    tongue = oval(x, my - gape * 0.95, wide * 0.6, 0.55 * gape + 0.001)
    brush(TONGUE, torch.maximum(inside, tongue), strength=(opening > 0.15).float())
    teeth = my + gape * (1 - 2 * face.teeth)
    has_teeth = (face.teeth > 0.05) & (opening > 0.1)
    brush(TOOTH, torch.maximum(inside, teeth), strength=has_teeth.float())
    closed_line = band(x, bend, wide * 0.9, 0.012)
    brush(INSIDE, closed_line, strength=0.75 * (1 - 8 * opening).clamp(0, 1))


def _paint_hair(brush: _Brush, face: Face, x: Tensor, y: Tensor) -> None:
    """A cap above the forehead, parted somewhere."""
    crown = face.crown
    cap = oval(x, y + 0.12, face.breadth + 0.35 * crown + 0.02, 0.9 + crown)
    forehead = oval(
        x - 0.3 * face.parting,
        y - 0.42,
        face.breadth * face.temples,
        0.42 - face.fringe,
    )
    hair = torch.maximum(torch.maximum(cap, -forehead), y - face.sides)
    has_hair = (crown > 0).float()
    brush(face.hair, hair, strength=has_hair)
    shine = torch.maximum(oval(x - 0.3 * face.light, y + 0.78, 0.3, 0.1), cap + 0.05)
    brush(
        (face.hair * 1.25 + 0.06).clamp(0, 1),
        shine,
        soft=0.12,
        strength=0.5 * has_hair,
    )


def _paint_glasses(brush: _Brush, face: Face, x: Tensor, y: Tensor) -> None:
    worn = (face.glasses > 0).float()
    ey = y - face.eye_height
    for side in (-1, 1):
        lens = oval(
            x - side * face.eye_apart,
            ey,
            face.glasses + 1e-3,
            face.glasses * 0.85 + 1e-3,
        )
        brush(face.frame, lens.abs() - 0.022, strength=worn)
    bridge = band(x, ey + 0.03, (face.eye_apart - face.glasses).clamp(min=0), 0.02)
    brush(face.frame, bridge, strength=worn)


def _broadcast(numbers: Tensor) -> Tensor:
    """[B] as [B, 1, 1, 1]."""
    return numbers.view(-1, 1, 1, 1)
