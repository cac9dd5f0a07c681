"""A face: the numbers by which one drawn person differs from another.

Lengths are in units of half a head's height, measured from the middle of the head, x to the right
and y down. Colours are sRGB in [0, 1]. Every number is a tensor [B] and every colour [B, 3], so
that a batch of people is one `Face`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from miniature.palette import BACKDROPS, DYED, HAIRS, IRISES, LIPS, SKINS, WOOLS


@dataclass(frozen=True)
class Face:
    """Everything that does not change while a person talks."""

    skin: Tensor
    shade: Tensor
    """Of the neck, the nose and the lids: a darker skin."""
    blush: Tensor
    hair: Tensor
    iris: Tensor
    lips: Tensor
    shirt: Tensor
    collar: Tensor
    frame: Tensor
    """Of the glasses."""

    breadth: Tensor
    """Half the head's width."""
    jaw: Tensor
    """How much narrower the head is at the chin than at the brow, 0..0.3."""
    neck: Tensor
    shoulders: Tensor

    eye_apart: Tensor
    eye_height: Tensor
    eye_size: Tensor
    eye_round: Tensor
    """Height over width of an open eye."""
    lashes: Tensor
    brow_height: Tensor
    brow_tilt: Tensor
    brow_thick: Tensor
    nose: Tensor
    ears: Tensor

    mouth_height: Tensor
    mouth_width: Tensor
    mouth_gape: Tensor
    """Half the height of a mouth that is wide open."""
    lip_thick: Tensor
    smile: Tensor
    teeth: Tensor

    crown: Tensor
    """How far the hair stands above the head; 0 is bald."""
    fringe: Tensor
    """How low the hair reaches over the forehead."""
    temples: Tensor
    """How wide the forehead is between the hair, as a share of the head."""
    sides: Tensor
    """How low the hair reaches beside the eyes."""
    parting: Tensor
    locks: Tensor
    """How far hair hangs down beside the head; 0 is short hair."""
    beard: Tensor
    """How much of the chin is covered; 0 is none."""
    moustache: Tensor
    glasses: Tensor
    """Size of the lenses; 0 is none."""
    outline: Tensor
    """Thickness of an ink line round the head; 0 is none."""
    light: Tensor
    """The side that the light comes from: -1 left, 1 right."""


@dataclass(frozen=True)
class Sampler:
    """Random numbers for a batch, all from one generator: a seed always draws the same people."""

    batch: int
    generator: torch.Generator

    def uniform(self, low: float, high: float) -> Tensor:
        """[B], uniform from `low` to `high`."""
        device = self.generator.device
        numbers = torch.rand(self.batch, generator=self.generator, device=device)
        return low + (high - low) * numbers

    def bernoulli(self, share: float) -> Tensor:
        """[B] of 0 and 1; `share` of them are 1."""
        return (self.uniform(0, 1) < share).float()

    def colour_from(self, colours: list[tuple[int, int, int]], jitter: float = 0.03) -> Tensor:
        """[B, 3] in 0..1: one of the colours, which are in 0..255, a little changed."""
        table = torch.tensor(colours, device=self.generator.device) / 255
        chosen = torch.randint(
            len(table),
            (self.batch,),
            generator=self.generator,
            device=table.device,
        )
        noise = torch.randn(self.batch, 3, generator=self.generator, device=table.device)
        return (table[chosen] + jitter * noise).clamp(0, 1)


def sample_faces(sampler: Sampler) -> Face:
    """A batch of random faces."""
    # The order of the draws is part of every seed: a changed order draws other people.
    some: Callable[[float, float], Tensor] = sampler.uniform
    skin = sampler.colour_from(SKINS)
    hair = sampler.colour_from(HAIRS)
    shirt = sampler.colour_from(WOOLS, 0.06)
    dyed = sampler.bernoulli(0.12)[:, None]
    hair = torch.lerp(hair, sampler.colour_from(DYED, 0.06), dyed)
    bearded = sampler.bernoulli(0.25)
    long_hair = sampler.bernoulli(0.45)
    return Face(
        skin=skin,
        shade=skin * torch.tensor([0.84, 0.76, 0.72], device=skin.device),
        blush=torch.lerp(
            skin,
            skin.new_tensor([0.86, 0.36, 0.32]),
            0.45 * some(0, 1)[:, None],
        ),
        hair=hair,
        iris=sampler.colour_from(IRISES),
        lips=torch.lerp(sampler.colour_from(LIPS), skin, some(0, 0.45)[:, None]),
        shirt=shirt,
        collar=(shirt + (0.12 * torch.sign(some(-1, 1)))[:, None]).clamp(0, 1),
        frame=sampler.colour_from([(40, 36, 44), (96, 60, 44), (150, 120, 70), (60, 70, 110)]),
        breadth=some(0.68, 0.88),
        jaw=some(0.04, 0.26),
        neck=some(0.30, 0.42),
        shoulders=some(1.0, 1.6),
        eye_apart=some(0.27, 0.37),
        eye_height=some(-0.16, 0.0),
        eye_size=some(0.10, 0.17),
        eye_round=some(0.6, 1.05),
        lashes=some(0.018, 0.045),
        brow_height=some(0.21, 0.30),
        brow_tilt=some(-0.18, 0.18),
        brow_thick=some(0.018, 0.05),
        nose=some(0.05, 0.11),
        ears=some(0.0, 0.16),
        mouth_height=some(0.46, 0.58),
        mouth_width=some(0.19, 0.32),
        mouth_gape=some(0.18, 0.27),
        lip_thick=some(0.02, 0.065),
        smile=some(-0.2, 0.9),
        teeth=some(0.12, 0.3) + 0.08 * sampler.bernoulli(0.5),
        crown=some(0.06, 0.26) * sampler.bernoulli(0.93),
        fringe=some(-0.8, -0.38),
        temples=some(0.82, 1.02),
        sides=some(-0.3, 0.2),
        parting=some(-0.6, 0.6),
        locks=some(0.6, 1.4) * long_hair,
        beard=some(0.02, 0.3) * bearded,
        moustache=some(0.03, 0.06) * bearded * sampler.bernoulli(0.7),
        glasses=some(0.19, 0.25) * sampler.bernoulli(0.22),
        outline=some(0.012, 0.035) * sampler.bernoulli(0.3),
        light=some(-1, 1),
    )


@dataclass(frozen=True)
class Background:
    """The wall behind the people, in halves of the picture's shorter side."""

    colours: Tensor
    """[B, 4, 3]: two of the wall, two of the shapes on it."""
    direction: Tensor
    """Of the gradient between the wall's two colours, in radians."""
    things: Tensor
    """[B, 3, 4]: x, y and half sides of soft rectangles and ovals on the wall."""
    roundness: Tensor
    """[B]: 1 where the shapes are ovals."""


def sample_backgrounds(sampler: Sampler) -> Background:
    """Random rooms and skies, with less contrast than the people."""
    wall = sampler.colour_from(BACKDROPS, 0.05)
    colours = [wall, (wall + 0.1 * sampler.uniform(-1, 1)[:, None]).clamp(0, 1)]
    for _ in range(2):
        other = sampler.colour_from(BACKDROPS, 0.05)
        share = 0.7 * sampler.uniform(0, 1)[:, None]
        colours.append(torch.lerp(wall, other, share))
    things = [
        sampler.uniform(*limits)
        for _ in range(3)
        for limits in ((-1.6, 1.6), (-1.2, 1.0), (0.1, 0.7), (0.1, 0.7))
    ]
    return Background(
        colours=torch.stack(colours, 1),
        direction=sampler.uniform(0, 6.3),
        things=torch.stack(things, 1).view(-1, 3, 4),
        roundness=sampler.bernoulli(0.5),
    )
