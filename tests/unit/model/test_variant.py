"""One transformer, switched from variant to variant and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from shutil import copyfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from farm.errors import PipelineLoadFailed
from farm.model.checkpoints import load_part
from farm.model.pipeline import Pipeline, load_pipeline
from farm.model.quantise import quantisable_weights
from farm.model.variant import Variant, Variants
from tests.support.tiny_model import TINY_PRESET

QUERY = "blocks.1.attn1.to_q.weight"


@pytest.fixture(params=["float32", "bfloat16"])
def changing(request: pytest.FixtureRequest, weights: Path) -> Pipeline:
    """A pipeline for one test, of a checkpoint in float32, in float32 or bfloat16."""
    return load_pipeline(
        weights, replace(TINY_PRESET, dtypes=dict.fromkeys(TINY_PRESET.parts, request.param)), "cpu"
    )


@pytest.fixture(scope="module")
def base(weights: Path) -> dict[str, Tensor]:
    return load_file(weights / "transformer" / "diffusion_pytorch_model.safetensors")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters") / "first.safetensors"
    pair = {
        "lora_down.weight": noise(4, 128, seed=1),
        "lora_up.weight": noise(128, 4, seed=2),
    }
    tensors = {f"diffusion_model.blocks.1.self_attn.q.{end}": each for end, each in pair.items()}
    save_file({**tensors, "diffusion_model.blocks.0.norm3.diff": noise(128, seed=3)}, path)
    return path


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters") / "second.safetensors"
    save_file(
        {
            "blocks.1.self_attn.q.diff": noise(128, 128, seed=4),
            "blocks.1.diff_m": noise(1, 6, 128, seed=5),
        },
        path,
    )
    return path


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in model.named_parameters()}


def same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return all(
        type(each) is type(others[name])
        and each.dtype == others[name].dtype
        and torch.equal(each, others[name])
        for name, each in some.items()
    )


def query_change(path: Path) -> Tensor:
    tensors = {
        name.removeprefix("diffusion_model."): each for name, each in load_file(path).items()
    }
    stem = "blocks.1.self_attn.q"
    if f"{stem}.diff" in tensors:
        return tensors[f"{stem}.diff"]
    return tensors[f"{stem}.lora_up.weight"] @ tensors[f"{stem}.lora_down.weight"]


def test_adapters_are_added_in_float32_with_their_scales_and_rounded_once(
    changing: Pipeline, base: dict[str, Tensor], first: Path, second: Path
) -> None:
    assert changing.switch_variant(Variant(adapters=((first, 0.5), (second, -1.5))))
    expected = base[QUERY] + 0.5 * query_change(first) - 1.5 * query_change(second)
    merged = changing.transformer.get_parameter(QUERY)
    torch.testing.assert_close(
        merged,
        expected.to(merged.dtype),
        rtol=0,
        atol=1e-5 if expected.dtype == merged.dtype else 0,
    )
    assert torch.equal(
        changing.transformer.get_parameter("blocks.1.scale_shift_table"),
        base["blocks.1.scale_shift_table"] - 1.5 * noise(1, 6, 128, seed=5),
    )


def test_the_plain_model_comes_back_bit_for_bit(
    changing: Pipeline, first: Path, second: Path
) -> None:
    plain = bits(changing.transformer)
    for variant in (
        Variant(adapters=((first, 0.7),)),
        Variant(adapters=((second, 1.2), (first, 0.1))),
        Variant(adapters=((first, 0.3),), quant="int8"),
        Variant(quant="fp8"),
        Variant(adapters=((first, 0.3),), resident_parameters=0),
    ):
        assert changing.switch_variant(variant)
        assert not same(bits(changing.transformer), plain)
    assert changing.switch_variant(Variant())
    assert same(bits(changing.transformer), plain)


def test_the_way_to_a_variant_does_not_matter(
    changing: Pipeline, first: Path, second: Path
) -> None:
    expected = Variant(adapters=((first, 0.7),))
    changing.switch_variant(expected)
    straight = bits(changing.transformer)
    changing.switch_variant(Variant(adapters=((second, 2.0),)))
    changing.switch_variant(expected)
    assert same(bits(changing.transformer), straight)


def test_nothing_happens_where_nothing_changes(changing: Pipeline, first: Path) -> None:
    assert not changing.switch_variant(Variant())
    changing.switch_variant(Variant(adapters=((first, 1.0),)))
    before = {name: each.data_ptr() for name, each in changing.transformer.named_parameters()}
    assert not changing.switch_variant(Variant(adapters=((first, 1.0),)))
    changing.switch_variant(Variant(adapters=((first, 2.0),)))
    moved = [
        name
        for name, each in changing.transformer.named_parameters()
        if each.data_ptr() != before[name]
    ]
    assert moved == ["blocks.0.norm2.weight", QUERY]


def test_an_adapter_that_does_not_fit_leaves_the_model_as_it_was(
    changing: Pipeline, first: Path, tmp_path: Path
) -> None:
    save_file({"blocks.0.surprise.diff": torch.ones(1)}, tmp_path / "other.safetensors")
    plain = bits(changing.transformer)
    with pytest.raises(PipelineLoadFailed, match=r"blocks\.0\.surprise\.diff matches no parameter"):
        changing.switch_variant(
            Variant(adapters=((first, 1.0), (tmp_path / "other.safetensors", 1.0)))
        )
    assert same(bits(changing.transformer), plain)


class Failing(dict[str, Tensor]):
    """A base of which one tensor cannot be read for a while."""

    fails = False

    def __getitem__(self, name: str) -> Tensor:
        if self.fails and name == QUERY:
            raise OSError("the disk is gone")
        return super().__getitem__(name)


def test_an_interrupted_switch_is_repaired_by_the_next(
    weights: Path, base: dict[str, Tensor], first: Path
) -> None:
    # given a switch back to the plain model that fails after the first of two weights
    transformer = load_part(weights, "transformer", dtype="float32")
    source = Failing(base)
    variants = Variants(transformer, source, "cpu")
    variants.switch(Variant(adapters=((first, 1.0),)))
    source.fails = True
    with pytest.raises(OSError, match="the disk is gone"):
        variants.switch(Variant())
    # when the disk is back, then the next switch finishes what that one began
    source.fails = False
    assert variants.switch(Variant())
    assert same(bits(transformer), base)


def test_every_block_linear_is_quantised_and_nothing_else(changing: Pipeline) -> None:
    changing.switch_variant(Variant(quant="int8"))
    quantised = [
        name for name, each in changing.transformer.named_parameters() if each.dtype == torch.int8
    ]
    assert quantised == quantisable_weights(changing.transformer)
    assert {name.split(".")[2] for name in quantised} == {
        "attn1",
        "attn2",
        "attn_audio",
        "ffn",
    }
    assert len(quantised) == 2 * (4 + 2 + 2 + 2)


def test_an_adapter_is_merged_before_the_sum_is_quantised(
    changing: Pipeline, base: dict[str, Tensor], first: Path
) -> None:
    changing.switch_variant(Variant(adapters=((first, 1.0),), quant="int8"))
    query = changing.transformer.get_submodule(QUERY.removesuffix(".weight"))
    merged = query.dequantised(torch.float32)
    expected = base[QUERY] + query_change(first)
    assert (merged - expected).norm() / expected.norm() < 0.01


@pytest.mark.parametrize("quant", [None, "int8", "fp8"])
@pytest.mark.parametrize("resident_parameters", [0, 10**9])
def test_streaming_blocks_changes_no_bit_of_the_video(
    make: Callable[..., tuple[Tensor, object]],
    pipeline: Pipeline,
    resident_parameters: int,
    quant: str | None,
) -> None:
    plain = make(0)[0]
    try:
        pipeline.switch_variant(Variant(quant=quant))
        resident = make(0)[0]
        pipeline.switch_variant(Variant(quant=quant, resident_parameters=resident_parameters))
        assert torch.equal(make(0)[0], resident)
        assert torch.equal(make(0)[0], resident)
    finally:
        pipeline.switch_variant(Variant())
    assert torch.equal(make(0)[0], plain)


def test_as_many_blocks_stay_as_their_parameters_allow(changing: Pipeline) -> None:
    model = changing.transformer
    size = sum(each.numel() for each in model.blocks[0].parameters())
    for resident_parameters, streamed in (
        (0, [0, 1]),
        (size - 1, [0, 1]),
        (size, [1]),
        (2 * size, []),
        (None, []),
    ):
        changing.switch_variant(Variant(resident_parameters=resident_parameters))
        hooked = [index for index, block in enumerate(model.blocks) if has_hooks(block)]
        assert hooked == streamed
        assert not has_hooks(model.condition_embedder)
        assert [*model._modules][:3] == [
            "rope",
            "patch_embedding",
            "condition_embedder",
        ]


def has_hooks(module: nn.Module) -> bool:
    registry = getattr(module, "_diffusers_hook", None)
    return bool(registry and registry.hooks)


def test_the_fingerprint_names_adapters_and_scheme(
    changing: Pipeline, first: Path, second: Path
) -> None:
    plain = changing.fingerprint(Variant())
    one, other = (sha256(path.read_bytes()).hexdigest()[:12] for path in (first, second))
    adapted = Variant(adapters=((first, 0.5), (second, 1.0)))
    assert changing.fingerprint(adapted) == f"{plain}+{one}+{other}"
    assert changing.fingerprint(Variant(quant="int8")) == f"{plain}+int8"


def test_an_adapter_keeps_its_fingerprint_while_it_is_loaded(
    changing: Pipeline, first: Path, second: Path, tmp_path: Path
) -> None:
    # Given an adapter in use whose file is then replaced
    path = Path(copyfile(first, tmp_path / "adapter.safetensors"))
    before = changing.fingerprint(Variant(adapters=((path, 1.0),)))
    copyfile(second, tmp_path / "new.safetensors")
    (tmp_path / "new.safetensors").replace(path)
    # Then the model still has the old one, and says so
    assert changing.fingerprint(Variant(adapters=((path, 1.0),))) == before
