from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.model import attention
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


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tokens that are on a GPU by name, on which `xformers` is the fastest; what was timed."""
    timed: list[str] = []

    def call_ms(name: str, _: torch.Tensor) -> float:
        timed.append(name)
        return 1.0 if name == "xformers" else 2.0

    class OnGpu(torch.Tensor):
        device = torch.device("cuda")

    tokens = torch.zeros(1, 64, 4, 32).as_subclass(OnGpu)
    monkeypatch.setattr(attention, "random_tokens", lambda *_: tokens)
    monkeypatch.setattr(attention, "_working", lambda _: ["native", "xformers"])
    monkeypatch.setattr(attention, "_call_ms", call_ms)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    return timed


def test_the_fastest_backend_is_timed_once_and_remembered(gpu: list[str], tmp_path: Path) -> None:
    memory = tmp_path / "home" / "attention.json"
    for _ in range(2):
        backend = select_backend(AUTO, "cuda", torch.bfloat16, heads=4, head_dim=32, memory=memory)
        assert backend == "xformers"
    assert gpu == ["native", "xformers"]


@pytest.mark.parametrize("content", ["", "[]", '{"a GPU": 3}'])
def test_what_was_remembered_wrongly_is_timed_again(
    gpu: list[str], tmp_path: Path, content: str
) -> None:
    memory = tmp_path / "attention.json"
    memory.write_text(content)
    for _ in range(2):
        select_backend(AUTO, "cuda", torch.bfloat16, heads=4, head_dim=32, memory=memory)
    assert gpu == ["native", "xformers"]


def test_another_version_of_a_package_is_timed_again(
    gpu: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "attention.json"
    for number in ("1", "2"):
        monkeypatch.setattr(attention, "version", lambda _, number=number: number)
        select_backend(AUTO, "cuda", torch.bfloat16, heads=4, head_dim=32, memory=memory)
    assert len(gpu) == 4


def test_a_backend_that_works_is_taken_by_name() -> None:
    assert choose("_native_math") == "_native_math"


def test_the_pipeline_says_which_kernel_every_attention_uses(weights: Path) -> None:
    pipeline = load_pipeline(weights, TINY_PRESET, "cpu", attention="_native_math")
    processors = pipeline.transformer.attn_processors.values()
    assert pipeline.attention == "_native_math"
    assert len(processors) == 3 * len(pipeline.transformer.blocks)
    assert {each._attention_backend.value for each in processors} == {"_native_math"}


def test_a_job_that_has_to_be_exact_gets_an_exact_kernel_in_place_of_a_named_one(
    weights: Path,
) -> None:
    pipeline = load_pipeline(weights, TINY_PRESET, "cpu", attention="_native_math")
    kernels = [pipeline.switch_attention(exact=exact) for exact in (False, True, False)]
    assert kernels == ["_native_math", "native", "_native_math"]
    assert pipeline.denoiser.attention == "_native_math"


def test_choosing_for_one_model_leaves_the_others_alone(weights: Path) -> None:
    other = load_part(weights, "transformer", dtype="float32")
    load_pipeline(weights, TINY_PRESET, "cpu", attention="_native_math")
    assert {each._attention_backend for each in other.attn_processors.values()} == {None}
