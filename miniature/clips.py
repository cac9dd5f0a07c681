"""Clips: batches of short videos of talking people, with the conditions of the model."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from farm.model.speakers import Box, regions
from miniature.acting import Pose, animate, posed, sample_opening
from miniature.face import (
    Background,
    Face,
    Sampler,
    sample_backgrounds,
    sample_faces,
)
from miniature.painting import Canvas, HeadPosition, grid, paint_person

MOUTH_WEIGHT = 20.0
EYES_WEIGHT = 3.0
"""The weight of a pixel of the mouth or of the eyes in the loss; one of the wall has 1."""


@dataclass(frozen=True)
class Scene:
    """The content of B pictures: S people in front of a background."""

    background: Background
    faces: tuple[Face, ...]
    heads: tuple[HeadPosition, ...]
    tint: Tensor
    """[B, 3, 3]: how all colours are mixed, as another painter or camera would have them."""
    lift: Tensor
    """[B, 3]: what is added to them."""

    def zoomed(self, sampler: Sampler, times: float) -> Scene:
        """The same people, that many times nearer, with the first one's lips about the middle."""
        head = self.heads[0]
        x = head.x + 0.3 * sampler.uniform(-1, 1) * head.size
        y = head.y + sampler.uniform(0, 0.6) * head.size
        heads = tuple(
            HeadPosition(times * (each.x - x), times * (each.y - y), times * each.size)
            for each in self.heads
        )
        return replace(self, heads=heads)

    def render(self, poses: tuple[Pose, ...], height: int, width: int) -> Tensor:
        """Their video [B, 3, F, H, W] in [-1, 1]."""
        canvas = Canvas(self.background, height, width)
        for face, head, pose in zip(self.faces, self.heads, poses, strict=True):
            paint_person(canvas, face, head, pose)
        mixed = torch.einsum("bij,bjfhw->bifhw", self.tint, canvas.pixels)
        pixels = mixed + self.lift.view(-1, 3, 1, 1, 1)
        return pixels.clamp(0, 1) * 2 - 1


@dataclass(frozen=True)
class Clips:
    """B clips of S speakers."""

    video: Tensor
    """[B, 3, F, H, W] in [-1, 1]."""
    picture: Tensor
    """[B, 3, H, W]: the source image; equal to frame 0 of a clip that begins a video."""
    weight: Tensor
    """[B, 1, 1, H, W]: the weight of each pixel in the loss."""
    regions: Tensor
    """[B, 3, tokens of a latent frame]: person 1, person 2, background."""

    def part(self, index: int, parts: int) -> Clips:
        """One of `parts` equal parts of the batch."""
        return Clips(*(getattr(self, each.name).chunk(parts)[index] for each in fields(self)))

    def mirrored(self) -> Clips:
        """Left and right exchanged, except for the regions."""
        return Clips(
            self.video.flip(-1),
            self.picture.flip(-1),
            self.weight.flip(-1),
            self.regions,
        )


def sample_scene(sampler: Sampler, speakers: int, height: int, width: int) -> Scene:
    """One person somewhere in the middle, or two side by side."""
    half_width = width / min(height, width)
    half_height = height / min(height, width)
    heads = [
        _sample_head(sampler, index, speakers, half_width, half_height) for index in range(speakers)
    ]
    background = sample_backgrounds(sampler)
    faces = tuple(sample_faces(sampler) for _ in heads)
    tint, lift = _sample_colour_change(sampler)
    return Scene(background, faces, tuple(heads), tint, lift)


def clips_from_start(
    sampler: Sampler,
    scene: Scene,
    opening: Tensor,
    spread: Tensor,
    size: tuple[int, int],
) -> Clips:
    """Clips that begin with their picture: a mouth in any position, which then joins the voice.

    `opening` and `spread` are [B, S, F]; size is (height, width).
    """
    fade = opening.new_zeros(max(3, opening.shape[2]))
    fade[:3] = opening.new_tensor([1.0, 0.6, 0.25])
    fade = fade[: opening.shape[2]]
    shown = sample_opening(sampler)[:, None, None]
    opening = torch.lerp(opening, shown, fade)
    spread = spread * (1 - fade)
    poses = tuple(
        _with_open_eyes(animate(sampler, opening[:, speaker], spread[:, speaker]))
        for speaker in range(opening.shape[1])
    )
    video = scene.render(poses, *size)
    return _make_clips(sampler, scene, video, video[:, :, 0])


def clips_from_middle(
    sampler: Sampler,
    scene: Scene,
    opening: Tensor,
    spread: Tensor,
    size: tuple[int, int],
) -> Clips:
    """Clips from the middle of a video, whose picture shows the same people in another pose.

    `opening` and `spread` are [B, S, F]; size is (height, width).
    """
    poses = tuple(
        animate(sampler, opening[:, speaker], spread[:, speaker])
        for speaker in range(opening.shape[1])
    )
    picture_poses = tuple(posed(sampler, sample_opening(sampler)) for _ in poses)
    picture = scene.render(picture_poses, *size)[:, :, 0]
    return _make_clips(sampler, scene, scene.render(poses, *size), picture)


def _make_clips(sampler: Sampler, scene: Scene, video: Tensor, picture: Tensor) -> Clips:
    """Clips with the weights of their pixels and the regions of their speakers."""
    height, width = picture.shape[-2:]
    weight = pixel_weights(scene, height, width)
    return Clips(video, picture, weight, _speaker_regions(sampler, scene, height, width))


def pixel_weights(scene: Scene, height: int, width: int) -> Tensor:
    """[B, 1, 1, H, W]: the weight of each pixel in the loss."""
    weight = torch.ones(len(scene.tint), 1, 1, height, width, device=scene.tint.device)
    for face, head in zip(scene.faces, scene.heads, strict=True):
        mouth = mouth_mask(face, head, height, width)[:, None, None]
        eyes = eyes_mask(face, head, height, width)[:, None, None]
        weight = weight + (MOUTH_WEIGHT - 1) * mouth
        weight = weight + (EYES_WEIGHT - 1) * eyes
    return weight


def mouth_mask(face: Face, head: HeadPosition, height: int, width: int) -> Tensor:
    """[B, H, W] of 0 and 1: where the lips are, also when they open and the head nods."""
    low = face.mouth_height - 0.6 * face.mouth_gape - 0.1
    high = face.mouth_height + 1.6 * face.mouth_gape + 0.1
    left = -face.mouth_width - 0.14
    right = face.mouth_width + 0.14
    return _rectangle_mask(head, left, right, low, high, height, width)


def eyes_mask(face: Face, head: HeadPosition, height: int, width: int) -> Tensor:
    """[B, H, W] of 0 and 1: eyes and brows."""
    wide = face.eye_apart + face.eye_size + 0.06
    top = face.brow_height + 0.08
    bottom = face.eye_size * face.eye_round + 0.06
    return _rectangle_mask(
        head,
        -wide,
        wide,
        face.eye_height - top,
        face.eye_height + bottom,
        height,
        width,
    )


def _rectangle_mask(
    head: HeadPosition,
    left: Tensor,
    right: Tensor,
    top: Tensor,
    bottom: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """[B, H, W]: a rectangle in units of each head."""
    x, y = (each[0] for each in grid(height, width, head.x.device))
    size = head.size[:, None, None]
    x = (x - head.x[:, None, None]) / size
    y = (y - head.y[:, None, None]) / size
    inside_x = (x > left[:, None, None]) & (x < right[:, None, None])
    inside_y = (y > top[:, None, None]) & (y < bottom[:, None, None])
    return (inside_x & inside_y).float()


def _sample_head(
    sampler: Sampler,
    index: int,
    speakers: int,
    half_width: float,
    half_height: float,
) -> HeadPosition:
    up = (half_height - 1) * sampler.uniform(0, 0.8)
    if speakers == 1:
        return HeadPosition(
            0.22 * sampler.uniform(-1, 1),
            sampler.uniform(-0.2, 0.05) - up,
            sampler.uniform(0.46, 0.76),
        )
    middle = half_width / 2 * (2 * index - 1)
    size = sampler.uniform(0.4, 0.58) * min(1.0, half_width / 1.35)
    return HeadPosition(
        middle + 0.08 * half_width * sampler.uniform(-1, 1),
        sampler.uniform(-0.16, 0.02) - up,
        size,
    )


def _sample_colour_change(sampler: Sampler) -> tuple[Tensor, Tensor]:
    """Tint and lift of the colours: none for most pictures, else another look for each."""
    batch = sampler.batch
    generator = sampler.generator
    device = generator.device
    changed = sampler.bernoulli(0.3)[:, None, None]
    grey = torch.full((3, 3), 1 / 3, device=device)
    one = torch.eye(3, device=device)
    mixed = torch.randn(batch, 3, 3, generator=generator, device=device) * 0.05
    saturation = sampler.uniform(0.3, 1.25)[:, None, None]
    contrast = sampler.uniform(0.75, 1.15)[:, None, None]
    wanted = torch.lerp(grey, one, saturation) * contrast
    tint = torch.lerp(one.expand(batch, 3, 3), wanted + mixed, changed)
    brightness = 0.07 * torch.randn(batch, 3, generator=generator, device=device)
    return tint, changed[:, :, 0] * brightness


def _with_open_eyes(pose: Pose) -> Pose:
    """The pose without a blink in the first two frames: a source image has open eyes."""
    lids = pose.lids.clone()
    lids[:, :2] = 1
    return replace(pose, lids=lids)


def _speaker_regions(sampler: Sampler, scene: Scene, height: int, width: int) -> Tensor:
    """Boxes round the heads for half of the clips, halves of the picture for the others."""
    device = scene.tint.device
    if len(scene.heads) == 1:
        tokens = (height // 16) * (width // 16)
        return torch.zeros(sampler.batch, 3, tokens, device=device)
    has_boxes = sampler.bernoulli(0.5).tolist()
    boxes = [_head_boxes(head, height, width) for head in scene.heads]
    size = (height, width)
    rows = []
    for row in range(sampler.batch):
        row_boxes = [box[row] for box in boxes] if has_boxes[row] else ()
        rows.append(regions(size, size, row_boxes))
    return torch.stack(rows).to(device)


def _head_boxes(head: HeadPosition, height: int, width: int) -> list[Box]:
    """The box round each of B heads, in pixels."""
    half = min(height, width) / 2
    y = head.y * half + height / 2
    x = head.x * half + width / 2
    middle = torch.stack([y, x], 1).cpu()
    reach = (head.size * half)[:, None].cpu() * torch.tensor([1.1, 0.9])
    low = (middle - reach).floor().clamp(min=0)
    high = torch.minimum((middle + reach).ceil(), torch.tensor([height, width]))
    boxes = torch.cat([low, high], 1).int().tolist()
    return [(top, left, bottom, right) for top, left, bottom, right in boxes]
