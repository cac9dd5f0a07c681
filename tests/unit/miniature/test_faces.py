"""Drawn people: always the same for a seed, and nothing moves but what should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from miniature.acting import Pose, animate, posed
from miniature.clips import (
    _with_open_eyes,
    clips_from_middle,
    clips_from_start,
    eyes_mask,
    mouth_mask,
    sample_scene,
)
from miniature.face import Sampler

SIZE = (64, 64)


def make_sampler(batch: int = 4, seed: int = 1) -> Sampler:
    return Sampler(batch, torch.Generator().manual_seed(seed))


def upright(batch: int = 4) -> Pose:
    return replace(
        posed(make_sampler(batch), torch.zeros(batch)),
        **{each: torch.zeros(batch, 1) for each in ("x", "y", "tilt")},
    )


def change(one: Tensor, other: Tensor) -> Tensor:
    """Of each pixel, [B, H, W]."""
    return (one - other).abs().amax(1)[:, 0]


def test_a_seed_draws_the_same_people_in_the_same_place() -> None:
    def drawn(seed: int) -> Tensor:
        return sample_scene(make_sampler(seed=seed), 1, *SIZE).render((upright(),), *SIZE)

    one = drawn(1)
    same = drawn(1)
    another = drawn(2)
    assert one.shape == (4, 3, 1, 64, 64)
    assert one.equal(same)
    assert not one.equal(another)
    assert one.min() >= -1
    assert one.max() <= 1


def test_people_differ_from_each_other() -> None:
    faces = sample_scene(make_sampler(), 1, *SIZE).render((upright(),), *SIZE)
    assert all(
        (faces[one] - faces[other]).abs().mean() > 0.1 for one in range(4) for other in range(one)
    )


@pytest.mark.parametrize(
    ("part", "amount", "box"),
    [
        ("opening", 1.0, mouth_mask),
        ("spread", 1.0, mouth_mask),
        ("lids", 0.0, eyes_mask),
    ],
)
def test_movement_stays_in_its_box(part: str, amount: float, box: object) -> None:
    scene = sample_scene(make_sampler(), 1, *SIZE)
    before = replace(upright(), opening=torch.full((4, 1), 0.4))
    after = replace(before, **{part: torch.full((4, 1), amount)})
    changed = change(scene.render((before,), *SIZE), scene.render((after,), *SIZE))
    inside = box(scene.faces[0], scene.heads[0], *SIZE)  # type: ignore[operator]
    assert (changed * inside).amax((1, 2)).min() > 0.1
    assert (changed * (1 - inside)).max() == 0


def test_a_mouth_opens_steadily() -> None:
    scene = sample_scene(make_sampler(), 1, *SIZE)
    closed = upright()
    amounts = [
        scene.render((replace(closed, opening=torch.full((4, 1), each)),), *SIZE)
        for each in (0.0, 0.3, 0.6, 1.0)
    ]
    moved = torch.stack([change(amounts[0], each).sum((1, 2)) for each in amounts])
    assert (moved.diff(dim=0) > 0).all()


def test_a_head_nods_with_its_voice_and_blinks_without_it() -> None:
    silent, loud = (
        animate(make_sampler(8), torch.full((8, 250), level), torch.zeros(8, 250))
        for level in (0.0, 1.0)
    )
    assert (loud.y < silent.y).all()
    assert loud.lids.equal(silent.lids)
    assert (silent.lids.amin(1) == 0).all()
    assert (silent.lids.mean(1) > 0.9).all()
    assert silent.x.abs().max() < 0.02


def test_a_first_clip_begins_with_its_picture_and_then_joins_the_voice() -> None:
    sampler = make_sampler()
    openings = torch.ones(4, 1, 9)
    scene = sample_scene(sampler, 1, *SIZE)
    clips = clips_from_start(sampler, scene, openings, torch.zeros(4, 1, 9), SIZE)
    assert clips.video[:, :, 0].equal(clips.picture)
    wide = change(clips.video[:, :, 8:], clips.video[:, :, 3:4]).mean()
    assert wide < change(clips.video[:, :, 8:], clips.video[:, :, :1]).mean()


def test_a_picture_may_show_any_position_of_the_mouth() -> None:
    sampler = make_sampler(16)
    scene = sample_scene(sampler, 1, *SIZE)
    clips = clips_from_start(sampler, scene, torch.zeros(16, 1, 9), torch.zeros(16, 1, 9), SIZE)
    closing = [
        change(clips.video[:, :, frame : frame + 1], clips.video[:, :, 8:]) for frame in (0, 4)
    ]
    lips = mouth_mask(scene.faces[0], scene.heads[0], *SIZE)
    mouths, nods = ((each * lips).amax((1, 2)) for each in closing)
    assert (mouths > 3 * nods + 0.1).float().mean() > 0.3


def test_a_source_image_has_open_eyes() -> None:
    asleep = replace(upright(), lids=torch.zeros(4, 5))
    assert _with_open_eyes(asleep).lids.tolist() == [[1, 1, 0, 0, 0]] * 4


def test_a_mirror_turns_all_of_a_clip() -> None:
    sampler = make_sampler()
    clips = clips_from_start(
        sampler,
        sample_scene(sampler, 1, *SIZE),
        torch.zeros(4, 1, 3),
        torch.zeros(4, 1, 3),
        SIZE,
    )
    mirrored = clips.mirrored()
    assert mirrored.video[..., 5].equal(clips.video[..., -6])
    assert mirrored.picture.equal(mirrored.video[:, :, 0])
    assert mirrored.weight[..., 5].equal(clips.weight[..., -6])


def test_a_later_clip_has_a_picture_of_the_same_people_in_another_pose() -> None:
    sampler = make_sampler()
    scene = sample_scene(sampler, 1, *SIZE)
    clips = clips_from_middle(sampler, scene, torch.ones(4, 1, 5), torch.zeros(4, 1, 5), SIZE)
    different = (clips.video - clips.picture[:, :, None]).abs().amax((1, 2))
    outside = 1 - mouth_mask(scene.faces[0], scene.heads[0], *SIZE)
    assert different.amax() > 0.1
    assert (different * outside).mean() < 0.05


def test_each_of_two_speakers_moves_a_mouth_in_a_separate_region() -> None:
    sampler = make_sampler()
    openings = torch.zeros(4, 2, 5)
    openings[:, 1, 3:] = 1
    scene = sample_scene(sampler, 2, 64, 128)
    clips = clips_from_middle(sampler, scene, openings, torch.zeros(4, 2, 5), (64, 128))
    boxes = [mouth_mask(*one, 64, 128) for one in zip(scene.faces, scene.heads, strict=True)]
    moved = change(clips.video[:, :, 4:], clips.video[:, :, 2:3])
    assert ((moved * boxes[1]).sum((1, 2)) > 5 * (moved * boxes[0]).sum((1, 2))).all()
    first_person, second_person, _ = (each.view(4, 4, 8) for each in clips.regions.unbind(1))
    assert first_person[..., 4:].sum() == second_person[..., :4].sum() == 0
    assert first_person.sum((1, 2)).min() > 0
    assert second_person.sum((1, 2)).min() > 0


def test_mouths_and_eyes_count_more_than_the_wall() -> None:
    sampler = make_sampler()
    scene = sample_scene(sampler, 1, *SIZE)
    zero = torch.zeros(4, 1, 1)
    weight = clips_from_middle(sampler, scene, zero, zero, SIZE).weight[:, 0, 0]
    face = scene.faces[0]
    head = scene.heads[0]
    lips = mouth_mask(face, head, *SIZE).bool()
    eyes = eyes_mask(face, head, *SIZE).bool()
    assert weight[lips].min() > weight[eyes & ~lips].max() > weight[~lips & ~eyes].max() == 1
