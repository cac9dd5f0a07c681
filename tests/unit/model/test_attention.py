from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.model.attention import AUTO, backend_fault, select_backend
from farm.model.checkpoints import load_part
from farm.model.pipeline import load_pipeline
from tests.support.tiny_model import TINY_PRESET


def choose(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> str:
    return select_backend(name, device, dtype, heads=4, head_dim=32)


def test_an_unknown_backend_is_refused_with_near_names() -> None:
    with pytest.raises(
        InvalidInput,
        match=r"got '_native_cudn'; allowed: auto, .*; did you mean _native_cudnn\?",
    ):
        choose("_native_cudn")


def test_a_name_near_to_none_is_refused_with_all_names() -> None:
    with pytest.raises(
        InvalidInput,
        match=r"got 'qqq'; allowed: auto, flash_4, cudnn_fp8, flash, .*xformers$",
    ):
        choose("qqq")


@pytest.mark.parametrize("name", ["_native_cudnn", "flash", "sage"])
def test_a_backend_that_does_not_work_here_is_refused_with_the_reason(
    name: str,
) -> None:
    with pytest.raises(
        PipelineLoadFailed,
        match=rf"'{name}' does not work on cpu in torch.float32: \w+Error: .+",
    ):
        choose(name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_ends_with_a_backend_that_works(dtype: torch.dtype) -> None:
    assert backend_fault(choose(AUTO, dtype=dtype), torch.ones(1, 64, 4, 32, dtype=dtype)) is None
    assert choose(AUTO, dtype=dtype) == "native"  # where nothing is timed, the first that works


def test_a_backend_that_works_is_taken_by_name() -> None:
    assert choose("_native_math") == "_native_math"


def test_the_pipeline_says_which_kernel_every_attention_uses(weights: Path) -> None:
    pipeline = load_pipeline(weights, TINY_PRESET, "cpu", attention="_native_math")
    processors = pipeline.transformer.attn_processors.values()
    assert pipeline.attention == "_native_math"
    assert len(processors) == 3 * len(pipeline.transformer.blocks)
    assert {each._attention_backend.value for each in processors} == {"_native_math"}


def test_choosing_for_one_model_leaves_the_others_alone(weights: Path) -> None:
    other = load_part(weights, "transformer", dtype="float32")
    load_pipeline(weights, TINY_PRESET, "cpu", attention="_native_math")
    assert {each._attention_backend for each in other.attn_processors.values()} == {None}
