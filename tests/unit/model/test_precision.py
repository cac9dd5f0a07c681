"""What is float32 and what is bfloat16, held rule by rule on a model that was loaded in bfloat16.

Rules of kernels and of the whole order of roundings are in test_transformer (time, epsilons),
test_speakers (empty regions) and in the reference cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.model.audio import audio_windows
from farm.model.block_attention import Context
from farm.model.checkpoints import load_part
from farm.model.denoise import Sampling
from farm.model.fused import norm_rope
from farm.model.pipeline import Pipeline, load_pipeline
from farm.model.sampler import FlowMatchEuler
from farm.model.speakers import positions
from farm.model.transformer import InfiniteTalkTransformer
from farm.model.vae import joined
from farm.plan import Plan, audio_rows
from farm.presets import INFINITETALK
from tests.support.tiny_model import TINY_PRESET
from tests.unit.model.conftest import quiet

Calls = list[tuple[Any, dict[str, Any], Any]]


@pytest.fixture(scope="module")
def half(weights: Path) -> Pipeline:
    return load_pipeline(weights, replace(TINY_PRESET, dtypes=INFINITETALK.dtypes), "cpu")


@pytest.fixture(scope="module")
def model(half: Pipeline) -> InfiniteTalkTransformer:
    return half.transformer


@pytest.fixture(scope="module")
def exact(weights: Path) -> InfiniteTalkTransformer:
    return load_part(weights, "transformer", dtype="float32")


@contextmanager
def watched(module: nn.Module) -> Iterator[Calls]:
    """Every call of a module in the block: its arguments, its keywords, its output."""
    calls: Calls = []
    hook = module.register_forward_hook(lambda _, *call: calls.append(call), with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@torch.inference_mode()
def predicted(model: InfiniteTalkTransformer, timestep: float = 500.0) -> Tensor:
    rows = noise(1, 9, 3, 64)
    return model(
        noise(1, 36, 2, 4, 4),
        torch.tensor([timestep]),
        text=noise(1, 7, 64),
        image=noise(1, 257, 64),
        audio=audio_windows(rows[None]),
    )


def is_rounded(tensor: Tensor) -> bool:
    """Whether every number would survive bfloat16."""
    return torch.equal(tensor.float(), tensor.bfloat16().float())


def test_the_head_works_on_numbers_that_were_never_rounded(
    model: InfiniteTalkTransformer,
) -> None:
    with watched(model.proj_out) as calls:
        prediction = predicted(model)
    ((seen,), _, output) = calls[0]
    assert {
        seen.dtype,
        output.dtype,
        prediction.dtype,
        model.proj_out.weight.dtype,
    } == {torch.float32}
    assert not is_rounded(seen)
    assert not is_rounded(prediction)


def test_the_time_is_embedded_as_in_float32_bit_for_bit(
    model: InfiniteTalkTransformer, exact: InfiniteTalkTransformer
) -> None:
    time = torch.tensor([731.25])
    for rounded, expected in zip(
        model.condition_embedder.time(time),
        exact.condition_embedder.time(time),
        strict=True,
    ):
        assert torch.equal(rounded, expected)


def test_two_times_that_bfloat16_cannot_tell_apart_give_two_predictions(
    model: InfiniteTalkTransformer,
) -> None:
    assert not torch.equal(predicted(model, 731.25), predicted(model, 732.0))


def test_gated_sums_are_float32_and_rounded_once_after_each_sublayer(
    model: InfiniteTalkTransformer,
) -> None:
    block = model.blocks[0]
    x = noise(1, 8, 128).bfloat16()
    _, temb = model.condition_embedder.time(torch.tensor([731.25]))
    shift1, scale1, gate1, shift2, scale2, gate2 = (block.scale_shift_table + temb).chunk(6, dim=1)
    rope = noise(1, 8, 16).cos(), noise(1, 8, 16).sin()
    activation, _, down = block.ffn.net
    parts = [block.attn1, block.attn2, block.attn_audio, activation.proj, down]
    with (
        watched(parts[0]) as a,
        watched(parts[1]) as b,
        watched(parts[2]) as c,
        watched(parts[3]) as d,
        watched(parts[4]) as e,
    ):
        left = block(
            x,
            Context(noise(1, 43, 128).bfloat16(), 1, noise(1, 257, 128).bfloat16()),
            temb,
            rope,
            noise(1, 2, 8, 64).bfloat16(),
        )
    looked, read, heard, widened, fed = (calls[0] for calls in (a, b, c, d, e))
    # 1. modulated in float32, rounded for the kernel, gated and added in float32, rounded
    assert torch.equal(looked[0][0], (block.norm1(x.float()) * (1 + scale1) + shift1).bfloat16())
    x = (x.float() + looked[2][0] * gate1).bfloat16()
    # 2. and 3. added without a gate
    assert torch.equal(read[0][0], block.norm2(x.float()).bfloat16())
    x = x + read[2]
    assert torch.equal(heard[0][0], block.norm_audio(x.float()).bfloat16())
    x = x + heard[2]
    # 4.
    assert torch.equal(widened[0][0], (block.norm3(x.float()) * (1 + scale2) + shift2).bfloat16())
    assert torch.equal(left, (x.float() + fed[2].float() * gate2).bfloat16())
    assert left.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "name",
    [
        "blocks.1.norm2.weight",
        "blocks.1.norm_audio.bias",
        "blocks.1.scale_shift_table",
        "scale_shift_table",
        "condition_embedder.time_proj.weight",
        "condition_embedder.time_embedder.linear_2.weight",
        "proj_out.weight",
    ],
)
def test_weights_that_stay_in_float32_keep_every_bit(
    name: str, model: InfiniteTalkTransformer, exact: InfiniteTalkTransformer
) -> None:
    assert torch.equal(model.get_parameter(name), exact.get_parameter(name))
    assert not is_rounded(model.get_parameter(name))


def test_queries_are_rotated_in_float32_and_rounded_once(
    model: InfiniteTalkTransformer,
) -> None:
    with watched(model.blocks[0]) as calls:
        predicted(model)
    cos, sin = calls[0][0][3]
    tokens = noise(1, cos.shape[1], 4 * 32).bfloat16()
    assert {cos.dtype, sin.dtype} == {torch.float32}
    assert not is_rounded(cos)
    rotated = norm_rope(tokens.float(), cos, sin)
    assert torch.equal(norm_rope(tokens, cos, sin), rotated.bfloat16())


def test_text_with_all_of_its_padding_in_one_token_and_image_make_the_context(
    model: InfiniteTalkTransformer,
) -> None:
    with watched(model.blocks[0]) as calls:
        predicted(model)
    context: Context = calls[0][0][1]
    text = noise(1, 7, 64).bfloat16()
    image = noise(1, 257, 64).bfloat16()
    embedder = model.condition_embedder
    padding = embedder.text_embedder(torch.zeros(1, 1, 64).bfloat16())
    assert padding.abs().max() > 0  # a constant token, and not zero
    assert context.text_repeats == 505
    near = partial(torch.testing.assert_close, rtol=0, atol=0.02)
    near(context.image, embedder.image_embedder(image))
    near(context.text, torch.cat([embedder.text_embedder(text), padding], dim=1))


def test_every_token_of_the_context_is_attended_to_even_padding(
    exact: InfiniteTalkTransformer,
) -> None:
    # given seven words, then 23 times the same token of padding
    attn = exact.blocks[0].attn2
    x, words, image = noise(1, 5, 128), noise(1, 8, 128), noise(1, 257, 128)
    text = torch.cat([words, words[:, -1:].expand(-1, 22, -1)], dim=1)
    heads = lambda tokens: tokens.unflatten(-1, (4, 32)).transpose(1, 2)  # noqa: E731
    query = attn.norm_q(attn.to_q(x))
    read = F.scaled_dot_product_attention(
        *map(heads, (query, attn.norm_k(attn.to_k(text)), attn.to_v(text)))
    )
    key = attn.norm_added_k(attn.add_k_proj(image))
    value = attn.add_v_proj(image)
    seen = F.scaled_dot_product_attention(*map(heads, (query, key, value)))
    expected = attn.to_out[0]((read + seen).transpose(1, 2).flatten(2))
    context = Context(words, 23, image)
    torch.testing.assert_close(attn(x, context), expected, rtol=0, atol=1e-5)


def test_positions_are_finer_than_bfloat16() -> None:
    query = noise(1, 24, 3, 8).bfloat16()
    key = noise(1, 6, 3, 8).bfloat16()
    who = torch.tensor([[[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]])
    places = positions(query, key, who)
    assert places.dtype == torch.float32
    assert not is_rounded(places)  # near 22, bfloat16 has steps of 0.125
    near = (places - positions(query.float(), key.float(), who)).abs() < 0.1
    assert near.float().mean() > 0.9  # the rest are near ties


def test_state_and_guidance_are_float32_and_only_the_kernels_input_is_rounded(
    half: Pipeline, sampling: Sampling, plan: Plan, voice: Tensor, picture: Any
) -> None:
    condition = half.condition(picture, size="infinitetalk-480", frame_num=9)
    chunk = plan.chunk(0)
    with (
        watched(half.transformer) as passes,
        watched(half.transformer.patch_embedding) as patched,
    ):
        frames, tail = half.chunk(
            chunk,
            condition=condition,
            text=half.encode_text("a man talks"),
            negative_text=half.encode_text("blurred"),
            audio=voice[:, audio_rows(chunk, voice.shape[1])],
            tail=None,
            sampling=sampling,
            report=quiet,
            show=joined,
        )
    times = torch.stack([arguments[1][0] for arguments, _, _ in passes])
    assert torch.equal(times, FlowMatchEuler().timesteps(2, 7.0)[:2].repeat_interleave(3))
    latents = [arguments[0] for arguments, _, _ in passes]
    assert {each.dtype for each in (*latents, condition.latents, frames, tail.motion_latents)} == {
        torch.float32
    }
    assert not is_rounded(
        latents[-1][0, :16, 1:]
    )  # latent frame 0 is held to the picture, in every state
    assert {arguments[0].dtype for arguments, _, _ in patched} == {torch.bfloat16}


def test_the_autoencoder_is_float32_and_kernels_may_be_the_fastest(
    half: Pipeline,
) -> None:
    assert {each.dtype for each in half.vae.model.parameters()} == {torch.float32}
    assert not torch.backends.cudnn.deterministic


def test_the_encoders_have_the_originals_dtypes_and_return_float32(
    half: Pipeline, picture: Any
) -> None:
    assert half.encode_text("a man").dtype == torch.float32
    assert (
        half.condition(picture, size="infinitetalk-480", frame_num=9).image_tokens.dtype
        == torch.float32
    )
    assert half.encode_text.model.dtype == torch.bfloat16
    assert half.encode_image.model.dtype == torch.float16
