"""Drawn people: always the same for a seed, and nothing moves but what should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from miniature.acting import Pose, acted, still
from miniature.clips import _awake, cast, eyes_box, first, later, mouth_box
from miniature.face import Dice

SIZE = (64, 64)


def dice(batch: int = 4, seed: int = 1) -> Dice:
    return Dice(batch, torch.Generator().manual_seed(seed))


def upright(batch: int = 4) -> Pose:
    return replace(
        still(dice(batch), torch.zeros(batch)),
        **{each: torch.zeros(batch, 1) for each in ("x", "y", "tilt")},
    )


def change(one: Tensor, other: Tensor) -> Tensor:
    """Of each pixel, [B, H, W]."""
    return (one - other).abs().amax(1)[:, 0]


def test_a_seed_draws_the_same_people_in_the_same_place() -> None:
    one, same, another = (
        cast(dice(seed=seed), 1, *SIZE).painted((upright(),), *SIZE) for seed in (1, 1, 2)
    )
    assert one.shape == (4, 3, 1, 64, 64)
    assert one.equal(same)
    assert not one.equal(another)
    assert one.min() >= -1
    assert one.max() <= 1


def test_people_differ_from_each_other() -> None:
    people = cast(dice(), 1, *SIZE).painted((upright(),), *SIZE)
    assert all(
        (people[one] - people[other]).abs().mean() > 0.1 for one in range(4) for other in range(one)
    )


@pytest.mark.parametrize(
    ("part", "amount", "box"),
    [
        ("opening", 1.0, mouth_box),
        ("spread", 1.0, mouth_box),
        ("lids", 0.0, eyes_box),
    ],
)
def test_what_moves_stays_in_its_box(part: str, amount: float, box: object) -> None:
    who = cast(dice(), 1, *SIZE)
    before = replace(upright(), opening=torch.full((4, 1), 0.4))
    after = replace(before, **{part: torch.full((4, 1), amount)})
    changed = change(who.painted((before,), *SIZE), who.painted((after,), *SIZE))
    inside = box(who.faces[0], who.heads[0], *SIZE)  # type: ignore[operator]
    assert (changed * inside).amax((1, 2)).min() > 0.1
    assert (changed * (1 - inside)).max() == 0


def test_a_mouth_opens_steadily() -> None:
    who = cast(dice(), 1, *SIZE)
    closed = upright()
    amounts = [
        who.painted((replace(closed, opening=torch.full((4, 1), each)),), *SIZE)
        for each in (0.0, 0.3, 0.6, 1.0)
    ]
    moved = torch.stack([change(amounts[0], each).sum((1, 2)) for each in amounts])
    assert (moved.diff(dim=0) > 0).all()


def test_a_head_nods_with_its_voice_and_blinks_without_it() -> None:
    silent, loud = (
        acted(dice(8), torch.full((8, 250), level), torch.zeros(8, 250)) for level in (0.0, 1.0)
    )
    assert (loud.y < silent.y).all()
    assert loud.lids.equal(silent.lids)
    assert (silent.lids.amin(1) == 0).all()
    assert (silent.lids.mean(1) > 0.9).all()
    assert silent.x.abs().max() < 0.02


def test_a_first_clip_begins_with_its_picture_and_then_joins_the_voice() -> None:
    throw = dice()
    said = torch.ones(4, 1, 9)
    who = cast(throw, 1, *SIZE)
    clips = first(throw, who, said, torch.zeros(4, 1, 9), SIZE)
    assert clips.video[:, :, 0].equal(clips.picture)
    wide = change(clips.video[:, :, 8:], clips.video[:, :, 3:4]).mean()
    assert wide < change(clips.video[:, :, 8:], clips.video[:, :, :1]).mean()


def test_a_picture_may_show_any_mouth_whatever_is_said() -> None:
    throw = dice(16)
    who = cast(throw, 1, *SIZE)
    clips = first(throw, who, torch.zeros(16, 1, 9), torch.zeros(16, 1, 9), SIZE)
    closing = [
        change(clips.video[:, :, frame : frame + 1], clips.video[:, :, 8:]) for frame in (0, 4)
    ]
    lips = mouth_box(who.faces[0], who.heads[0], *SIZE)
    mouths, nods = ((each * lips).amax((1, 2)) for each in closing)
    assert (mouths > 3 * nods + 0.1).float().mean() > 0.3


def test_nobody_is_photographed_in_a_blink() -> None:
    asleep = replace(upright(), lids=torch.zeros(4, 5))
    assert _awake(asleep).lids.tolist() == [[1, 1, 0, 0, 0]] * 4


def test_a_mirror_turns_all_of_a_clip() -> None:
    throw = dice()
    clips = first(
        throw,
        cast(throw, 1, *SIZE),
        torch.zeros(4, 1, 3),
        torch.zeros(4, 1, 3),
        SIZE,
    )
    mirrored = clips.mirrored()
    assert mirrored.video[..., 5].equal(clips.video[..., -6])
    assert mirrored.picture.equal(mirrored.video[:, :, 0])
    assert mirrored.weight[..., 5].equal(clips.weight[..., -6])


def test_a_later_clip_has_a_picture_of_the_same_people_in_another_pose() -> None:
    throw = dice()
    who = cast(throw, 1, *SIZE)
    clips = later(throw, who, torch.ones(4, 1, 5), torch.zeros(4, 1, 5), SIZE)
    different = (clips.video - clips.picture[:, :, None]).abs().amax((1, 2))
    outside = 1 - mouth_box(who.faces[0], who.heads[0], *SIZE)
    assert different.amax() > 0.1
    assert (different * outside).mean() < 0.05


def test_each_of_two_speakers_moves_a_mouth_in_a_region_of_their_own() -> None:
    throw = dice()
    said = torch.zeros(4, 2, 5)
    said[:, 1, 3:] = 1
    who = cast(throw, 2, 64, 128)
    clips = later(throw, who, said, torch.zeros(4, 2, 5), (64, 128))
    boxes = [mouth_box(*one, 64, 128) for one in zip(who.faces, who.heads, strict=True)]
    moved = change(clips.video[:, :, 4:], clips.video[:, :, 2:3])
    assert ((moved * boxes[1]).sum((1, 2)) > 5 * (moved * boxes[0]).sum((1, 2))).all()
    first_person, second_person, _ = (each.view(4, 4, 8) for each in clips.regions.unbind(1))
    assert first_person[..., 4:].sum() == second_person[..., :4].sum() == 0
    assert first_person.sum((1, 2)).min() > 0
    assert second_person.sum((1, 2)).min() > 0


def test_mouths_and_eyes_count_more_than_the_wall() -> None:
    throw = dice()
    who = cast(throw, 1, *SIZE)
    weight = later(throw, who, torch.zeros(4, 1, 1), torch.zeros(4, 1, 1), SIZE).weight[:, 0, 0]
    face = who.faces[0]
    head = who.heads[0]
    lips = mouth_box(face, head, *SIZE).bool()
    eyes = eyes_box(face, head, *SIZE).bool()
    assert weight[lips].min() > weight[eyes & ~lips].max() > weight[~lips & ~eyes].max() == 1
