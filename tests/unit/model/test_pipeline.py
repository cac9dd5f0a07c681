from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from farm.errors import Cancelled, GenerationFailed, InvalidInput, OutOfMemory
from farm.model.denoise import Sampling
from farm.model.pipeline import Condition, Pipeline, Tail
from farm.model.vae import VideoAutoencoder
from farm.plan import Plan, audio_rows


@pytest.fixture(scope="module")
def one_by_one(pipeline: Pipeline) -> Pipeline:
    """Decodes one latent at a time: of 9 frames 1, 4 and 4."""
    return replace(pipeline, vae=VideoAutoencoder(pipeline.vae.model, latents_per_call=1))


def test_chunks_add_up_to_the_video(make, plan: Plan) -> None:
    pieces = []
    tail = None
    for index in range(plan.chunks):
        frames, tail = make(index, tail)
        pieces.append(frames)
    video = torch.cat(pieces, dim=1)
    assert video.shape == (3, 16, 32, 32)
    assert video.dtype == torch.float32
    assert [each.shape[1] for each in pieces] == [9, 4, 3]
    assert video.isfinite().all()
    assert video.abs().max() <= 1
    assert video.std() > 0.05  # a picture, not one colour


def test_a_chunk_made_again_from_the_stored_tail_is_the_same_bit_for_bit(
    make, tmp_path: Path
) -> None:
    # given the second chunk of an unbroken run
    _, tail = make(0)
    unbroken, after = make(1, tail)
    # when its tail went through a file
    save_file(tail.to_tensors(), tmp_path / "tail.safetensors")
    again, after_again = make(1, Tail.from_tensors(load_file(tmp_path / "tail.safetensors")))
    # then frames and the next tail are the same
    assert torch.equal(again, unbroken)
    assert all(
        torch.equal(a, b)
        for a, b in zip(vars(after).values(), vars(after_again).values(), strict=True)
    )


def test_a_condition_survives_a_file(condition: Condition, make, tmp_path: Path) -> None:
    save_file(condition.to_tensors(), tmp_path / "condition.safetensors")
    stored = Condition.from_tensors(load_file(tmp_path / "condition.safetensors"))
    assert torch.equal(make(0, condition=stored)[0], make(0)[0])


@torch.inference_mode()
def test_the_tail_is_the_end_of_the_chunk_after_colour_correction(make, pipeline: Pipeline) -> None:
    frames, tail = make(0)
    assert torch.equal(tail.motion_latents, pipeline.vae.encode(frames[:, -5:]))


def test_the_last_chunk_leaves_no_tail_and_is_decoded_only_as_far_as_it_is_shown(
    make, one_by_one: Pipeline
) -> None:
    # given a video of 5 frames: the first two pieces of a chunk of 1, 4 and 4
    five = Plan(frames=5, frame_num=9, motion_frame=5)
    reported: list[tuple[str, int, int]] = []
    # when it is made
    short, tail = make(0, None, one_by_one, five, report=lambda *event: reported.append(event))
    # then the third is not
    assert (short.shape[1], tail, reported[-1]) == (5, None, ("decode", 2, 2))
    assert torch.equal(short, make(0, None, one_by_one)[0][:, :5])


def test_frames_are_shown_while_later_ones_are_not_decoded_yet(make, one_by_one: Pipeline) -> None:
    happened: list[tuple[str, int] | int] = []

    def show(pieces: Iterator[Tensor]) -> Tensor:
        shown = []
        for frames in pieces:
            happened.append(frames.shape[1])
            shown.append(frames)
        return torch.cat(shown, dim=1)

    def report(stage: str, done: int, total: int) -> None:
        if stage == "decode":
            happened.append((stage, done))

    whole, _ = make(0, None, one_by_one, report=report, show=show)
    assert happened == [
        ("decode", 0),
        1,
        ("decode", 1),
        4,
        ("decode", 2),
        4,
        ("decode", 3),
    ]
    assert torch.equal(whole, make(0, None, one_by_one)[0])


def test_another_random_state_gives_another_chunk(make) -> None:
    _, tail = make(0)
    other = torch.Generator().manual_seed(1).get_state()
    assert not torch.equal(make(1, replace(tail, generator_state=other))[0], make(1, tail)[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 43},
        {"text_scale": 4.0},
        {"audio_scale": 2.0},
        {"shift": 3.0},
        {"colour_strength": 0.0},
    ],
)
def test_every_setting_counts(make, sampling: Sampling, changes: dict[str, float]) -> None:
    assert not torch.equal(make(0, sampling=replace(sampling, **changes))[0], make(0)[0])


def test_audio_one_frame_late_gives_another_video(make, plan: Plan, voice: Tensor) -> None:
    late = voice[:, [row + 1 for row in audio_rows(plan.chunk(0), 12)]]
    assert not torch.equal(make(0, audio=late)[0], make(0)[0])


def test_progress_is_reported_as_it_happens(make) -> None:
    reported: list[tuple[str, int, int]] = []
    make(0, report=lambda *event: reported.append(event))
    steps = [("sampling", done, 2) for done in (0, 1, 2)]
    pieces = [("decode", done, 2) for done in (0, 1, 2)]
    assert reported == [("pre", 0, 1), *steps, *pieces]


def test_cancelling_stops_at_that_step(make) -> None:
    reported: list[tuple[str, int, int]] = []

    def report(*event) -> None:
        reported.append(event)
        if event == ("sampling", 1, 2):
            raise Cancelled("cancelled by its owner")

    with pytest.raises(Cancelled, match="cancelled by its owner"):
        make(0, report=report)
    assert reported[-1] == ("sampling", 1, 2)


def test_out_of_memory_names_what_to_change(make) -> None:
    def report(stage: str, done: int, total: int) -> None:
        if stage == "sampling":
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total of ..."
            )

    with pytest.raises(
        OutOfMemory,
        match=r"32x32 does not fit on cpu: 2\.50 GiB was requested.*infinitetalk-480.*frame_num",
    ):
        make(0, report=report)


def test_numbers_that_are_not_finite_are_a_failure_not_a_video(make, voice: Tensor) -> None:
    with pytest.raises(GenerationFailed, match="chunk 0"):
        make(0, audio=voice[:, :13] * float("nan"))


def test_a_later_chunk_needs_its_tail(make) -> None:
    with pytest.raises(InvalidInput, match="tail: got 0 frames; chunk 1 continues from 5"):
        make(1, None)


def test_the_first_chunk_takes_no_tail(make) -> None:
    with pytest.raises(InvalidInput, match="tail: got 5 frames; chunk 0 continues from 0"):
        make(0, make(0)[1])


def test_audio_of_another_length_is_refused(make, voice: Tensor) -> None:
    with pytest.raises(InvalidInput, match=r"\[1, 12, 3, 64\].*\[speakers, 13, layers, dim\]"):
        make(0, audio=voice[:, :12])


def test_a_condition_of_another_length_is_refused(
    make, pipeline: Pipeline, picture: np.ndarray
) -> None:
    with pytest.raises(InvalidInput, match="got 2 latent frames; 9 frames need 3"):
        make(
            0,
            condition=pipeline.condition(picture, size="infinitetalk-480", frame_num=5),
        )


@pytest.mark.parametrize("motion_frame", [0, 4, 13])
def test_a_motion_frame_that_does_not_fit_is_refused(
    make, sampling: Sampling, motion_frame: int
) -> None:
    with pytest.raises(InvalidInput, match=f"motion_frame: got {motion_frame}"):
        make(0, sampling=replace(sampling, motion_frame=motion_frame))


def test_a_picture_that_is_not_rgb_bytes_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidInput, match=r"float64 \[8, 8, 3\]"):
        pipeline.condition(np.zeros((8, 8, 3)), size="infinitetalk-480", frame_num=9)


def test_an_unknown_size_is_refused(pipeline: Pipeline, picture: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="size: got '4k'; the model tiny makes infinitetalk-480"):
        pipeline.condition(picture, size="4k", frame_num=9)


def test_three_speakers_are_refused(make, voice: Tensor) -> None:
    with pytest.raises(InvalidInput, match="got 3 speakers; allowed: 1 or 2"):
        make(0, audio=voice[:, :13].expand(3, -1, -1, -1))


def test_a_video_keeps_the_colours_of_its_first_picture(
    make, pipeline: Pipeline, picture: np.ndarray
) -> None:
    # given a second chunk whose source frame is much darker
    _, tail = make(0)
    dark = pipeline.condition(picture // 8, size="infinitetalk-480", frame_num=9)
    # then the reference for its colours, and for those after it, is still the first picture's
    _, after = make(1, tail, condition=dark)
    assert torch.equal(after.colours, tail.colours)


def test_a_skipped_last_step_saves_its_passes_and_hardly_moves_the_video(
    make, sampling: Sampling
) -> None:
    reported: list[tuple[str, int, int]] = []
    whole, after = make(0, sampling=replace(sampling, steps=8))
    shorter, after_shorter = make(
        0,
        sampling=replace(sampling, steps=8, skip_last_step=True),
        report=lambda *event: reported.append(event),
    )
    assert [event for event in reported if event[0] == "sampling"][-1] == (
        "sampling",
        7,
        7,
    )
    assert 0 < (shorter - whole).norm() / whole.norm() < 0.05
    assert torch.equal(
        after.generator_state, after_shorter.generator_state
    )  # later chunks draw the same noise


def test_after_a_cut_a_chunk_begins_from_its_own_picture_alone(
    make, pipeline: Pipeline, plan: Plan, picture
) -> None:
    # given two tails that differ in everything but the random generator
    _, tail = make(0)
    other = replace(tail, motion_latents=-tail.motion_latents, colours=tail.colours + 1)
    other_picture = pipeline.condition(picture[::-1].copy(), size="infinitetalk-480", frame_num=9)

    def scene(before: Tail, condition: Condition) -> tuple[Tensor, Tail]:
        return make(0, before.at_cut(), condition=condition)

    # then the first chunk of a scene is the same after both, and another picture's is another
    frames, after = scene(tail, other_picture)
    assert torch.equal(frames, scene(other, other_picture)[0])
    assert not torch.equal(frames, make(0, tail.at_cut())[0])
    # and its colours are its own picture's
    assert torch.equal(after.colours, make(0, condition=other_picture)[1].colours)


def test_the_random_stream_goes_on_over_a_cut(make) -> None:
    first, tail = make(0)
    assert not torch.equal(make(0, tail.at_cut())[0], first)
    # an unbroken stream: the noise after the cut is the next that the generator draws, nothing is
    # thrown away
    generator = torch.Generator()
    generator.set_state(tail.generator_state)
    torch.randn(16, 3, 4, 4, generator=generator)
    assert torch.equal(make(0, tail.at_cut())[1].generator_state, generator.get_state())
