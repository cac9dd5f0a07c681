"""What only a GPU can show: kernels, streams and quantised products that a CPU does not have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from farm.model.attention import AUTO, EXACT, select_backend
from farm.model.block_attention import attend_context
from farm.model.caching import TeaCache
from farm.model.denoise import Sampling
from farm.model.pipeline import Pipeline, load_pipeline
from farm.model.quantise import SCHEMES, quick_scheme
from farm.model.vae import joined
from farm.model.vae_walk import add_biased, norm_silu
from farm.model.variant import Variant
from farm.plan import Plan, audio_rows
from farm.presets import INFINITETALK
from tests.support.tiny_model import TINY_PRESET
from tests.unit.model.conftest import quiet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(scope="module")
def fast(weights: Path) -> Pipeline:
    return load_pipeline(weights, replace(TINY_PRESET, dtypes=INFINITETALK.dtypes), "cuda")


@pytest.fixture
def draw(
    fast: Pipeline,
    plan: Plan,
    sampling: Sampling,
    voice: Tensor,
    picture: np.ndarray,
) -> Callable[..., Tensor]:
    """The first chunk by a variant, after which the plain model is back."""
    chunk = plan.chunk(0)
    condition = fast.condition(picture, size="infinitetalk-480", frame_num=9)

    def drawn(variant: Variant, **changes: Any) -> Tensor:
        fast.switch_variant(variant)
        frames, _ = fast.chunk(
            chunk,
            condition=condition,
            text=fast.encode_text("a man talks"),
            negative_text=fast.encode_text("blurred"),
            audio=voice[:, audio_rows(chunk, voice.shape[1])],
            tail=None,
            sampling=replace(sampling, **changes),
            report=quiet,
            show=joined,
        )
        fast.switch_variant(Variant())
        return frames

    return drawn


def test_auto_takes_an_exact_kernel_that_works() -> None:
    assert select_backend(AUTO, "cuda", torch.bfloat16, heads=40, head_dim=128) in EXACT


@pytest.mark.parametrize("resident_parameters", [0, 300_000])
def test_streamed_blocks_change_no_bit(
    draw: Callable[..., Tensor], resident_parameters: int
) -> None:
    plain = draw(Variant())
    assert torch.equal(draw(Variant(resident_parameters=resident_parameters)), plain)
    assert torch.equal(draw(Variant()), plain)


def test_streamed_blocks_may_be_skipped(draw: Callable[..., Tensor]) -> None:
    changes = {"steps": 8, "teacache": TeaCache(1e9, (1.0, 0.0))}
    assert torch.equal(draw(Variant(resident_parameters=0), **changes), draw(Variant(), **changes))


@pytest.mark.parametrize("quant", SCHEMES)
def test_every_scheme_works(draw: Callable[..., Tensor], quant: str) -> None:
    plain = draw(Variant())
    quantised = draw(Variant(quant=quant))
    assert 0 < (quantised - plain).norm() / plain.norm() < 0.2
    assert torch.equal(draw(Variant()), plain)


def test_the_format_that_is_quicker_works(draw: Callable[..., Tensor]) -> None:
    assert not torch.equal(draw(Variant(quant=quick_scheme("cuda"))), draw(Variant()))


def test_an_adapter_is_merged_streamed_and_gone_again(
    draw: Callable[..., Tensor], tmp_path: Path
) -> None:
    save_file({"blocks.0.norm3.diff": torch.ones(128)}, tmp_path / "adapter.safetensors")
    adapters = ((tmp_path / "adapter.safetensors", 0.5),)
    plain = draw(Variant())
    adapted = draw(Variant(adapters=adapters))
    assert not torch.equal(adapted, plain)
    assert torch.equal(draw(Variant(adapters=adapters, resident_parameters=0)), adapted)
    assert torch.equal(draw(Variant()), plain)


@torch.inference_mode()
def test_norm_and_activation_in_one_kernel_equal_those_of_torch() -> None:
    x = torch.randn(2, 96, 3, 5, 7, device="cuda").to(memory_format=torch.channels_last_3d)
    gamma = torch.randn(96, 1, 1, 1, device="cuda")
    fused = torch.empty_like(x)
    norm_silu(x, gamma, out=fused)
    plain = F.silu(F.normalize(x, dim=1) * 96**0.5 * gamma)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_text_and_image_are_attended_to_in_one_kernel(dtype: torch.dtype) -> None:
    def drawn(*shape: int) -> Tensor:
        return torch.randn(2, *shape, 3, 64, device="cuda", dtype=dtype)

    query, text, image = drawn(150), (drawn(70), drawn(70)), (drawn(257), drawn(257))
    exact = [[each.double() for each in pair] for pair in (text, image)]
    fused = attend_context(query, text, 9, image, None)
    (key, value), seen = exact
    key, value = (torch.cat([each, each[:, -1:].expand(-1, 8, -1, -1)], 1) for each in (key, value))
    expected = sum(
        F.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (query.double(), *pair)))
        for pair in ((key, value), seen)
    )
    rounding = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(
        fused.double(), expected.transpose(1, 2), rtol=rounding, atol=rounding
    )


@torch.inference_mode()
def test_sums_with_a_bias_equal_those_of_torch() -> None:
    x, added = (
        torch.randn(2, 96, 3, 5, 7, device="cuda").to(memory_format=torch.channels_last_3d)
        for _ in range(2)
    )
    bias = torch.randn(96, device="cuda")
    torch.testing.assert_close(add_biased(x, bias, added), x + bias[:, None, None, None] + added)
    fused, gamma = torch.empty_like(x), torch.randn(96, 1, 1, 1, device="cuda")
    norm_silu(x, gamma, bias, out=fused)
    biased = x + bias[:, None, None, None]
    plain = F.silu(F.normalize(biased, dim=1) * 96**0.5 * gamma)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_decoding_twice_gives_the_same_bits(fast: Pipeline) -> None:
    latents = torch.randn(16, 3, 8, 12, device="cuda")
    assert torch.equal(fast.vae.decode(latents), fast.vae.decode(latents))
