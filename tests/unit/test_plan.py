"""Arithmetic of seconds, frames, scenes and chunks."""

from __future__ import annotations

import random
from itertools import chain

import pytest

from farm.plan import (
    LOOK_AHEAD,
    LOOK_BEHIND,
    SHORTEST_SCENE,
    Plan,
    audio_rows,
    frame_count,
    merge_short_scenes,
)

SHAPES = [(81, 9), (81, 1), (81, 77), (5, 1), (9, 5), (1001, 9)]
LENGTHS = [*range(1, 330), 1000, 2_250_000]


def starts_by_loop(frames: int, frame_num: int, motion_frame: int) -> list[int]:
    """Starts of the chunks, computed step by step until the video is covered."""
    starts = [0]
    covered = frame_num
    while covered < frames:
        starts.append(covered - motion_frame)
        covered = starts[-1] + frame_num
    return starts


@pytest.mark.parametrize(
    ("frames", "chunks"), [(1, 1), (81, 1), (82, 2), (153, 2), (154, 3), (225, 3), (1000, 14)]
)
def test_after_the_first_81_frames_each_chunk_adds_72(frames, chunks):
    assert Plan(frames, 81, 9).chunks == chunks


@pytest.mark.parametrize(("frame_num", "motion_frame"), SHAPES)
def test_chunks_start_where_a_loop_puts_them(frame_num, motion_frame):
    for frames in LENGTHS[:-1]:
        plan = Plan(frames, frame_num, motion_frame)
        starts = [plan.chunk(index).start for index in range(plan.chunks)]
        assert starts == starts_by_loop(frames, frame_num, motion_frame)


@pytest.mark.parametrize(("frame_num", "motion_frame"), SHAPES)
def test_the_frames_that_chunks_keep_add_up_to_the_video(frame_num, motion_frame):
    for frames in LENGTHS[:-1]:
        plan = Plan(frames, frame_num, motion_frame)
        kept = [plan.chunk(index).keep for index in range(plan.chunks)]
        assert sum(kept) == frames
        assert min(kept) >= 1


@pytest.mark.parametrize(("frame_num", "motion_frame"), SHAPES)
def test_a_chunk_begins_with_the_last_frames_of_the_one_before(frame_num, motion_frame):
    plan = Plan(1000, frame_num, motion_frame)
    shown = 0
    for index in range(plan.chunks):
        chunk = plan.chunk(index)
        assert chunk.overlap == (motion_frame if index else 0)
        assert chunk.start + chunk.overlap == shown
        assert chunk.last is (index == plan.chunks - 1)
        shown += chunk.keep


def test_a_day_of_video_is_planned_quickly():
    plan = Plan(2_250_000, 81, 9)
    assert plan.chunk(plan.chunks - 1).last


@pytest.mark.parametrize("index", [-1, 3])
def test_a_chunk_outside_the_plan_is_an_error(index):
    with pytest.raises(IndexError, match=f"chunk {index} of a plan of 3"):
        Plan(225, 81, 9).chunk(index)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 0), (639, 0), (640, 1), (1279, 1), (16_000, 25), (51_840, 81), (51_839, 80)],
)
def test_a_frame_is_640_samples(samples, frames):
    assert frame_count(samples) == frames


def test_frames_are_rounded_down_in_floating_point_as_in_the_original():
    off = [count for count in range(2_000) if frame_count(640 * count) != count]

    assert off[0] == 29
    assert {count - frame_count(640 * count) for count in off} == {1}


@pytest.mark.parametrize(("frame_num", "motion_frame"), SHAPES)
def test_a_chunk_hears_slightly_more_than_it_shows(frame_num, motion_frame):
    for frames in (1, 50, 81, 82, 153, 200, 1000):
        plan = Plan(frames, frame_num, motion_frame)
        for index in {0, plan.chunks // 2, plan.chunks - 1}:
            rows = audio_rows(plan.chunk(index), frames)
            assert len(rows) == LOOK_BEHIND + frame_num + LOOK_AHEAD
            assert 0 <= min(rows) <= max(rows) < frames


def test_the_first_row_repeats_before_the_beginning():
    assert audio_rows(Plan(200, 81, 9).chunk(0), 200) == [0, 0, *range(83)]


def test_a_chunk_in_the_middle_hears_its_own_rows():
    assert audio_rows(Plan(300, 81, 9).chunk(1), 300) == list(range(70, 155))


def test_the_last_row_repeats_after_the_end_of_a_single_chunk():
    assert audio_rows(Plan(81, 81, 9).chunk(0), 81) == [0, 0, *range(81), 80, 80]


def test_the_last_of_several_chunks_hears_the_end_mirrored():
    rows = audio_rows(Plan(100, 81, 9).chunk(1), 100)
    assert rows == [*range(70, 100), *range(99, 44, -1)]


def test_a_last_chunk_that_ends_with_the_audio_mirrors_its_look_ahead():
    assert audio_rows(Plan(153, 81, 9).chunk(1), 153)[-4:] == [151, 152, 152, 151]


@pytest.mark.parametrize("frames", [1, 27, 28, 29, 56, 57, 1000])
def test_with_a_lead_in_every_chunk_shows_as_many_frames(frames):
    plan = Plan(frames, 33, 5, lead_in=5)
    chunks = [plan.chunk(index) for index in range(plan.chunks)]
    assert [chunk.start for chunk in chunks] == [28 * k - 5 for k in range(plan.chunks)]
    assert {chunk.overlap for chunk in chunks} == {5}
    assert {chunk.keep for chunk in chunks[:-1]} <= {28}
    assert sum(chunk.keep for chunk in chunks) == frames


def test_every_scene_has_a_lead_in():
    plan = Plan(100, 33, 5, cuts=(40,), lead_in=5)
    chunks = [plan.chunk(index) for index in range(plan.chunks)]
    assert [chunk.first for chunk in chunks] == [0, 28, 40, 68, 96]
    assert [chunk.begins_scene for chunk in chunks] == [True, False, True, False, False]


def test_rows_begin_with_the_lead_in():
    plan = Plan(56, 33, 5, lead_in=5)
    assert audio_rows(plan.chunk(0), 70) == [0, 0, *range(35)]
    assert audio_rows(plan.chunk(1), 70) == list(range(26, 63))


def test_after_a_lead_in_the_end_is_not_mirrored():
    assert audio_rows(Plan(56, 33, 5, lead_in=5).chunk(1), 61)[-3:] == [60, 60, 60]


def test_a_lead_in_starts_from_the_first_frame_of_the_source():
    assert Plan(56, 33, 5, lead_in=5).chunk(0).source_frame == 0


def random_cuts(seed: int, frames: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(1, frames), min(frames - 1, seed % 9)))


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize(("frame_num", "motion_frame"), SHAPES)
def test_scenes_are_planned_separately_and_make_the_whole_video(frame_num, motion_frame, seed):
    frames = 300 + 7 * seed
    plan = Plan(frames, frame_num, motion_frame, tuple(random_cuts(seed, frames)))
    chunks = [plan.chunk(index) for index in range(plan.chunks)]
    # then each scene's chunks are those of a video of its length, offset by the scene's start
    alone = [
        (begin + chunk.start, chunk.overlap, chunk.keep)
        for begin, end in plan.scenes
        for scene in [Plan(end - begin, frame_num, motion_frame)]
        for chunk in map(scene.chunk, range(scene.chunks))
    ]
    assert [(chunk.start, chunk.overlap, chunk.keep) for chunk in chunks] == alone
    # and all together are numbered in order and show every frame once
    assert [chunk.index for chunk in chunks] == list(range(plan.chunks))
    assert [chunk.last for chunk in chunks] == [False] * (plan.chunks - 1) + [True]
    shown = [range(chunk.first, chunk.first + chunk.keep) for chunk in chunks]
    assert list(chain.from_iterable(shown)) == list(range(frames))


@pytest.mark.parametrize("seed", range(60))
def test_no_chunk_continues_frames_of_another_scene(seed):
    plan = Plan(500, 21, 5, tuple(random_cuts(seed, 500)))
    for chunk in map(plan.chunk, range(plan.chunks)):
        assert not any(chunk.start < cut <= chunk.start + chunk.overlap for cut in plan.cuts)
        assert (chunk.start in (0, *plan.cuts)) is (chunk.overlap == 0)


@pytest.mark.parametrize("cuts", [(0,), (100,), (50, 50), (60, 50), (-1,), (101,)])
def test_invalid_cuts_are_refused(cuts):
    with pytest.raises(ValueError, match="must rise, above 0 and below 100"):
        Plan(100, 21, 5, cuts)


def test_a_chunk_after_the_last_scene_is_an_error():
    plan = Plan(100, 21, 5, (30,))
    with pytest.raises(IndexError, match=f"chunk {plan.chunks} of a plan of {plan.chunks}"):
        plan.chunk(plan.chunks)


def test_a_chunk_hears_across_a_cut():
    plan = Plan(200, 81, 9, (100,))
    assert [plan.chunk(index).start for index in range(plan.chunks)] == [0, 72, 100, 172]
    assert audio_rows(plan.chunk(1), 200) == list(range(70, 155))
    assert audio_rows(plan.chunk(2), 200)[:3] == [98, 99, 100]


@pytest.mark.parametrize(
    ("cuts", "kept"),
    [
        ([], ()),
        ([100, 200], (100, 200)),
        ([100, 124, 200], (124, 200)),  # a short scene is merged into the one before
        ([100, 125, 200], (100, 125, 200)),
        ([24, 100], (100,)),  # a short first scene is merged into the next
        ([25, 100], (25, 100)),
        ([100, 276], (100,)),
        ([100, 275], (100, 275)),
        ([100, 110, 120, 130, 200], (130, 200)),
    ],
)
def test_a_scene_shorter_than_a_second_is_merged_into_its_neighbour(cuts, kept):
    assert merge_short_scenes(cuts, 300) == kept


@pytest.mark.parametrize("seed", range(100))
def test_no_short_scene_is_left_after_merging(seed):
    frames = 30 + 9 * seed
    kept = merge_short_scenes(random_cuts(seed, frames), frames)
    lengths = [end - begin for begin, end in Plan(frames, 21, 5, kept).scenes]
    assert min(lengths) >= SHORTEST_SCENE
