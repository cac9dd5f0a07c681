"""What a machine is measured by, with a model that is drawn and tiny."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from farm.model.bench import (
    Bench,
    Option,
    PartTimes,
    PassTime,
    bench,
    pass_inputs,
    pass_operations,
    step_counts,
    time_pass,
    video_costs,
)
from farm.model.drawn import DrawnWeights, draw_part
from farm.model.drawn_pipeline import draw_pipeline
from farm.model.pipeline import Pipeline
from farm.model.variant import Variant, Variants
from farm.presets import FLASHTALK, INFINITETALK, MINIATURE


def attention_operations(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Of shapes."""
    return sdpa_flop_count(query, key, value)


ON_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_operations}
"""The attention that torch does not count by itself."""

FEW_FRAMES = replace(MINIATURE, defaults=replace(MINIATURE.defaults, frame_num=9, motion_frame=5))


def load(fold_audio: bool) -> Pipeline:
    return draw_pipeline(FEW_FRAMES, "cpu", attention="native", fold_audio=fold_audio)


@pytest.fixture(scope="module")
def encoded() -> list[tuple[int, ...]]:
    """The shapes that were encoded as H.264."""
    return []


@pytest.fixture(scope="module")
def measured(encoded: list[tuple[int, ...]]) -> Bench:
    return bench(
        load,
        calls=1,
        price_per_h=3600,
        encode_h264=lambda frames: encoded.append(frames.shape),
        is_profiled=True,
    )


def test_a_pass_is_timed_by_every_option_that_works(measured: Bench) -> None:
    assert [each.option for each in measured.passes] == [
        Option("native"),
        Option("native", fold_audio=True),
    ]
    assert all(each.pass_s > 0 and each.first_s > 0 for each in measured.passes)
    assert all(each.tflops > 0 and each.peak_gib > 0 for each in measured.passes)
    assert measured.faults == []


def test_8_bits_and_folded_audio_are_timed_together() -> None:
    option = Option("native", "int8", fold_audio=True)
    assert time_pass(load(True), option, 128, 128, calls=1, streamed=False).pass_s > 0


def test_the_parts_of_a_chunk_are_timed(measured: Bench, encoded: list[tuple[int, ...]]) -> None:
    parts = vars(measured.parts)
    assert all(value > 0 for value in parts.values()), parts
    assert set(encoded) == {(4, 128, 128, 3)}  # those of 9 that the chunk before had not made


def test_a_profile_lists_what_takes_most_first(measured: Bench) -> None:
    times = [kernel.total_ms for kernel in measured.kernels]
    assert times == sorted(times, reverse=True)
    assert times[0] > 0


def test_a_second_of_video_costs_what_its_chunk_does() -> None:
    passes = [PassTime(Option("native"), first_s=3.0, pass_s=2.0, tflops=1.0, peak_gib=1.0)]
    parts = PartTimes(9.0, 0.25, 0.5, 0.125, 0.0625, 0.0625, peak_gib=1.0)

    costs = list(video_costs(INFINITETALK, passes, parts, price_per_h=7200))

    assert [(cost.steps, cost.passes) for cost in costs] == [(40, 3), (8, 2), (4, 2)]
    last = costs[-1]
    assert last.sampling_s == 2 * (3 + 3 * 2)
    assert last.chunk_s == 18 + 1  # the condition is made once for a picture
    assert last.gpu_s_per_video_s == pytest.approx(19 / (72 / 25))
    assert last.money_per_video_s == pytest.approx(2 * 19 / (72 / 25))


def test_costs_are_those_of_the_fastest_exact_pass_and_of_the_fastest() -> None:
    def timed(option: Option, pass_s: float) -> PassTime:
        return PassTime(option, pass_s, pass_s, tflops=1.0, peak_gib=1.0)

    exact = timed(Option("flash_4"), 2.0)
    fast = timed(Option("cudnn_fp8", "fp8", fold_audio=True), 1.0)
    rounded = [timed(Option("cudnn_fp8"), 1.5), timed(Option("flash_4", "int8"), 1.8)]
    passes = [timed(Option("native"), 3.0), exact, *rounded, fast]
    parts = PartTimes(0, 0, 0, 0, 0, None, peak_gib=1.0)

    costs = list(video_costs(INFINITETALK, passes, parts, price_per_h=None))

    assert list(dict.fromkeys(cost.option for cost in costs)) == [exact.option, fast.option]
    assert {cost.money_per_video_s for cost in costs} == {None}


def test_steps_are_those_that_a_model_allows() -> None:
    assert step_counts(FLASHTALK) == (4, 2)
    assert step_counts(INFINITETALK) == (40, 8, 4)


@pytest.mark.parametrize("fold_audio", [False, True])
def test_operations_are_those_that_torch_counts(fold_audio: bool) -> None:
    pipeline = load(fold_audio)
    model = pipeline.transformer
    given = pass_inputs(model.config, 128, 128, 9, device="cpu")
    kept: dict[Any, Any] = {}
    with torch.inference_mode():
        model(**given, kept=kept)
        with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
            model(**given, kept=kept)

    expected = pass_operations(model.config, 3, 128, 128, fold_audio=fold_audio)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_drawn_weights_are_alike_each_time_and_keep_a_signal() -> None:
    model = draw_part("transformer", MINIATURE.parts["transformer"], "cpu", dtype="bfloat16")
    weights = DrawnWeights(model, "cpu")
    parameters = dict(model.named_parameters())
    assert set(weights) == set(parameters)
    assert all(torch.equal(weights[name], each) for name, each in parameters.items())
    large = parameters["blocks.0.ffn.net.0.proj.weight"]
    assert large.dtype == torch.bfloat16
    assert float(large.float().std()) == pytest.approx(large.shape[1] ** -0.5, rel=0.05)


def test_a_drawn_model_comes_back_from_8_bits() -> None:
    model = draw_part("transformer", MINIATURE.parts["transformer"], "cpu", dtype="float32")
    before = {name: each.clone() for name, each in model.named_parameters()}
    variants = Variants(model, DrawnWeights(model, "cpu"), "cpu")

    variants.switch(Variant(quant="int8"))
    assert model.blocks[0].ffn.net[0].proj.weight.dtype == torch.int8
    variants.switch(Variant())

    after = dict(model.named_parameters())
    assert all(np.array_equal(after[name], each) for name, each in before.items())
