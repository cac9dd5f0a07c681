"""Clips: batches of short videos of talking people, with everything that the model is told about them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from farm.model.speakers import Box, regions
from miniature.acting import Pose, acted, still
from miniature.face import Dice, Face, Place, people, places
from miniature.painting import Canvas, Where, grid, person

MOUTH, EYES = 20.0, 3.0
"""How much more a pixel of the mouth or of the eyes counts than one of the wall."""


@dataclass(frozen=True)
class Cast:
    """Who is in the pictures: S people in each of B places."""

    place: Place
    faces: tuple[Face, ...]
    heads: tuple[Where, ...]
    tint: Tensor
    """[B, 3, 3]: how all colours are mixed anew, as another hand or camera would have them."""
    lift: Tensor
    """[B, 3]: what is added to them."""

    def nearer(self, dice: Dice, times: float) -> Cast:
        """The same people from so much nearer, somebody's lips about the middle."""
        head = self.heads[0]
        x = head.x + 0.3 * dice.between(-1, 1) * head.size
        y = head.y + dice.between(0, 0.6) * head.size
        heads = tuple(
            Where(times * (each.x - x), times * (each.y - y), times * each.size)
            for each in self.heads
        )
        return replace(self, heads=heads)

    def painted(self, poses: tuple[Pose, ...], height: int, width: int) -> Tensor:
        """Their video [B, 3, F, H, W] in [-1, 1]."""
        canvas = Canvas(self.place, height, width)
        for face, head, pose in zip(self.faces, self.heads, poses, strict=True):
            person(canvas, face, head, pose)
        pixels = torch.einsum("bij,bjfhw->bifhw", self.tint, canvas.pixels) + self.lift.view(
            -1, 3, 1, 1, 1
        )
        return pixels.clamp(0, 1) * 2 - 1


@dataclass(frozen=True)
class Clips:
    """B clips of S speakers."""

    video: Tensor
    """[B, 3, F, H, W] in [-1, 1]."""
    picture: Tensor
    """[B, 3, H, W]: what the model is given to see; equal to frame 0 of a clip that begins a video."""
    weight: Tensor
    """[B, 1, 1, H, W]: how much each pixel counts."""
    regions: Tensor
    """[B, 3, tokens of a latent frame]: person 1, person 2, background."""

    def part(self, index: int, parts: int) -> Clips:
        """One of so many equal parts of the batch."""
        return Clips(*(getattr(self, each.name).chunk(parts)[index] for each in fields(self)))

    def mirrored(self) -> Clips:
        """Left and right exchanged; who is where is not."""
        return Clips(
            self.video.flip(-1),
            self.picture.flip(-1),
            self.weight.flip(-1),
            self.regions,
        )


def cast(dice: Dice, speakers: int, height: int, width: int) -> Cast:
    """One person somewhere in the middle, or two side by side."""
    halves = width / min(height, width), height / min(height, width)
    heads = [_head(dice, index, speakers, *halves) for index in range(speakers)]
    return Cast(
        places(dice),
        tuple(people(dice) for _ in heads),
        tuple(heads),
        *_restyled(dice),
    )


def first(dice: Dice, who: Cast, opening: Tensor, spread: Tensor, size: tuple[int, int]) -> Clips:
    """Clips that begin with their picture: a mouth in any position, which then joins the voice. Both are [B, S, F]."""
    fade = opening.new_zeros(max(3, opening.shape[2]))
    fade[:3] = opening.new_tensor([1.0, 0.6, 0.25])
    fade = fade[: opening.shape[2]]
    shown = dice.between(-0.6, 0.9).clamp(min=0)[:, None, None]
    opening = torch.lerp(opening, shown, fade)
    spread = spread * (1 - fade)
    poses = tuple(_awake(acted(dice, opening[:, s], spread[:, s])) for s in range(opening.shape[1]))
    video = who.painted(poses, *size)
    return Clips(video, video[:, :, 0], weights(who, *size), _regions(dice, who, *size))


def later(dice: Dice, who: Cast, opening: Tensor, spread: Tensor, size: tuple[int, int]) -> Clips:
    """Clips from the middle of a video, whose picture shows the same people in another pose."""
    poses = tuple(acted(dice, opening[:, s], spread[:, s]) for s in range(opening.shape[1]))
    posed = tuple(still(dice, dice.between(-0.6, 0.9).clamp(min=0)) for _ in poses)
    picture = who.painted(posed, *size)[:, :, 0]
    return Clips(
        who.painted(poses, *size),
        picture,
        weights(who, *size),
        _regions(dice, who, *size),
    )


def weights(who: Cast, height: int, width: int) -> Tensor:
    """[B, 1, 1, H, W]: what to look at when a clip is compared with another."""
    weight = torch.ones(len(who.tint), 1, 1, height, width, device=who.tint.device)
    for face, head in zip(who.faces, who.heads, strict=True):
        weight = weight + (MOUTH - 1) * mouth_box(face, head, height, width)[:, None, None]
        weight = weight + (EYES - 1) * eyes_box(face, head, height, width)[:, None, None]
    return weight


def mouth_box(face: Face, head: Where, height: int, width: int) -> Tensor:
    """[B, H, W] of 0 and 1: where the lips go when they open and the head nods."""
    low = face.mouth_height - 0.6 * face.mouth_gape - 0.1
    high = face.mouth_height + 1.6 * face.mouth_gape + 0.1
    return _box(
        head,
        -face.mouth_width - 0.14,
        face.mouth_width + 0.14,
        low,
        high,
        height,
        width,
    )


def eyes_box(face: Face, head: Where, height: int, width: int) -> Tensor:
    """[B, H, W] of 0 and 1: eyes and brows."""
    wide = face.eye_apart + face.eye_size + 0.06
    top = face.brow_height + 0.08
    bottom = face.eye_size * face.eye_round + 0.06
    return _box(
        head,
        -wide,
        wide,
        face.eye_height - top,
        face.eye_height + bottom,
        height,
        width,
    )


def _box(
    head: Where,
    left: Tensor,
    right: Tensor,
    top: Tensor,
    bottom: Tensor,
    height: int,
    width: int,
) -> Tensor:
    x, y = (each[0] for each in grid(height, width, head.x.device))
    x, y = (
        (each - middle[:, None, None]) / head.size[:, None, None]
        for each, middle in ((x, head.x), (y, head.y))
    )
    left, right, top, bottom = (each[:, None, None] for each in (left, right, top, bottom))
    return ((x > left) & (x < right) & (y > top) & (y < bottom)).float()


def _head(dice: Dice, index: int, speakers: int, half_width: float, half_height: float) -> Where:
    up = (half_height - 1) * dice.between(0, 0.8)
    if speakers == 1:
        return Where(
            0.22 * dice.between(-1, 1),
            dice.between(-0.2, 0.05) - up,
            dice.between(0.46, 0.76),
        )
    middle = half_width / 2 * (2 * index - 1)
    size = dice.between(0.4, 0.58) * min(1.0, half_width / 1.35)
    return Where(
        middle + 0.08 * half_width * dice.between(-1, 1),
        dice.between(-0.16, 0.02) - up,
        size,
    )


def _restyled(dice: Dice) -> tuple[Tensor, Tensor]:
    """For most pictures nothing; else another contrast, saturation, hue and brightness."""
    batch = dice.batch
    device = dice.generator.device
    changed = dice.often(0.3)[:, None, None]
    grey = torch.full((3, 3), 1 / 3, device=device)
    one = torch.eye(3, device=device)
    mixed = torch.randn(batch, 3, 3, generator=dice.generator, device=device) * 0.05
    wanted = (
        torch.lerp(grey, one, dice.between(0.3, 1.25)[:, None, None])
        * dice.between(0.75, 1.15)[:, None, None]
    )
    tint = torch.lerp(one.expand(batch, 3, 3), wanted + mixed, changed)
    lift = changed[:, :, 0] * (
        0.07 * torch.randn(batch, 3, generator=dice.generator, device=device)
    )
    return tint, lift


def _awake(pose: Pose) -> Pose:
    """Nobody is photographed in a blink."""
    lids = pose.lids.clone()
    lids[:, :2] = 1
    return replace(pose, lids=lids)


def _regions(dice: Dice, who: Cast, height: int, width: int) -> Tensor:
    """Boxes round the heads for half of the clips, halves of the picture for the others, as for jobs."""
    if len(who.heads) == 1:
        return torch.zeros(dice.batch, 3, (height // 16) * (width // 16), device=who.tint.device)
    boxed = dice.often(0.5).tolist()
    boxes = [_head_box(head, height, width) for head in who.heads]
    rows = [
        regions(
            (height, width),
            (height, width),
            [box[row] for box in boxes] if boxed[row] else (),
        )
        for row in range(dice.batch)
    ]
    return torch.stack(rows).to(who.tint.device)


def _head_box(head: Where, height: int, width: int) -> list[Box]:
    half = min(height, width) / 2
    middle = torch.stack([head.y * half + height / 2, head.x * half + width / 2], 1).cpu()
    reach = (head.size * half)[:, None].cpu() * torch.tensor([1.1, 0.9])
    low = (middle - reach).floor().clamp(min=0)
    high = (middle + reach).ceil()
    high = torch.minimum(high, torch.tensor([height, width]))
    boxes = torch.cat([low, high], 1).int().tolist()
    return [(top, left, bottom, right) for top, left, bottom, right in boxes]
