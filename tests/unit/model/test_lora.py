from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Size, Tensor

from farm.errors import PipelineLoadFailed
from farm.model.lora import Adapter
from farm.model.parts import build
from tests.support.tiny_model import TINY_PRESET

Write = Callable[[Mapping[str, Tensor]], Adapter]


@pytest.fixture(scope="module")
def parameters() -> dict[str, Size]:
    with torch.device("meta"):
        model = build("transformer", TINY_PRESET.parts["transformer"])
    return {name: each.shape for name, each in model.named_parameters()}


@pytest.fixture
def write(parameters: dict[str, Size], tmp_path: Path) -> Write:
    def written(tensors: Mapping[str, Tensor]) -> Adapter:
        save_file(dict(tensors), tmp_path / "adapter.safetensors")
        return Adapter(tmp_path / "adapter.safetensors", parameters)

    return written


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


DOWN = noise(4, 128)
UP = noise(128, 4)

SPELLINGS = [
    (
        "diffusion_model.blocks.1.self_attn.q.lora_down.weight",
        "diffusion_model.blocks.1.self_attn.q.lora_up.weight",
    ),
    (
        "diffusion_model.blocks.1.self_attn.q.lora_A.weight",
        "diffusion_model.blocks.1.self_attn.q.lora_B.weight",
    ),
    (
        "blocks.1.self_attn.q.lora_down.weight",
        "blocks.1.self_attn.q.lora_up.weight",
    ),
    (
        "transformer.blocks.1.attn1.to_q.lora_A.weight",
        "transformer.blocks.1.attn1.to_q.lora_B.weight",
    ),
    (
        "blocks.1.attn1.to_q.lora_A.default.weight",
        "blocks.1.attn1.to_q.lora_B.default.weight",
    ),
]


@pytest.mark.parametrize(("down", "up"), SPELLINGS)
def test_a_pair_is_a_product_under_every_spelling(write: Write, down: str, up: str) -> None:
    adapter = write({down: DOWN, up: UP})
    assert [*adapter.shapes] == ["blocks.1.attn1.to_q.weight"]
    torch.testing.assert_close(adapter.delta("blocks.1.attn1.to_q.weight"), UP @ DOWN)


def test_alpha_counts_as_a_share_of_the_rank(write: Write) -> None:
    stem = "diffusion_model.blocks.0.ffn.2"
    pair = {f"{stem}.lora_down.weight": noise(4, 256), f"{stem}.lora_up.weight": UP}
    plain = write(pair).delta("blocks.0.ffn.net.2.weight")
    scaled = write({**pair, f"{stem}.alpha": torch.tensor(1.0)}).delta("blocks.0.ffn.net.2.weight")
    torch.testing.assert_close(scaled, plain / 4)


SUMS = [
    ("diffusion_model.blocks.0.self_attn.q.diff_b", "blocks.0.attn1.to_q.bias"),
    ("diffusion_model.blocks.0.norm3.diff", "blocks.0.norm2.weight"),
    ("diffusion_model.blocks.0.norm3.diff_b", "blocks.0.norm2.bias"),
    (
        "diffusion_model.blocks.0.self_attn.norm_q.diff",
        "blocks.0.attn1.norm_q.weight",
    ),
    (
        "diffusion_model.blocks.0.cross_attn.norm_k_img.diff",
        "blocks.0.attn2.norm_added_k.weight",
    ),
    ("diffusion_model.blocks.0.norm_x.diff", "blocks.0.norm_audio.weight"),
    (
        "diffusion_model.blocks.0.audio_cross_attn.kv_linear.diff_b",
        "blocks.0.attn_audio.to_kv.bias",
    ),
    ("diffusion_model.audio_proj.proj1_vf.diff", "audio_proj.proj1_vf.weight"),
    (
        "diffusion_model.text_embedding.0.diff_b",
        "condition_embedder.text_embedder.linear_1.bias",
    ),
    (
        "diffusion_model.img_emb.proj.0.diff",
        "condition_embedder.image_embedder.norm1.weight",
    ),
    ("diffusion_model.patch_embedding.diff", "patch_embedding.weight"),
    ("diffusion_model.head.head.diff", "proj_out.weight"),
    ("diffusion_model.blocks.1.diff_m", "blocks.1.scale_shift_table"),
    ("diffusion_model.head.diff_m", "scale_shift_table"),
]


@pytest.mark.parametrize(("name", "parameter"), SUMS)
def test_a_difference_is_added_to_its_parameter(
    write: Write, parameters: dict[str, Size], name: str, parameter: str
) -> None:
    change = noise(*parameters[parameter])
    adapter = write({name: change.bfloat16()})
    assert [*adapter.shapes] == [parameter]
    assert torch.equal(adapter.delta(parameter), change.bfloat16().float())


def test_a_pair_and_a_difference_of_one_weight_add_up(write: Write) -> None:
    stem = "blocks.0.self_attn.q"
    sum_ = noise(128, 128)
    adapter = write(
        {
            f"{stem}.lora_down.weight": DOWN,
            f"{stem}.lora_up.weight": UP,
            f"{stem}.diff": sum_,
        }
    )
    torch.testing.assert_close(adapter.delta("blocks.0.attn1.to_q.weight"), UP @ DOWN + sum_)


def test_a_convolutions_pair_is_a_product_too(write: Write) -> None:
    down = noise(4, 36, 1, 2, 2)
    up = noise(128, 4, 1, 1, 1)
    adapter = write(
        {
            "patch_embedding.lora_down.weight": down,
            "patch_embedding.lora_up.weight": up,
        }
    )
    expected = torch.einsum("or,rcthw->octhw", up.flatten(1), down)
    torch.testing.assert_close(adapter.delta("patch_embedding.weight"), expected)


def test_the_product_is_computed_in_float32(write: Write) -> None:
    stem = "blocks.0.self_attn.q"
    adapter = write(
        {
            f"{stem}.lora_down.weight": DOWN.bfloat16(),
            f"{stem}.lora_up.weight": UP.bfloat16(),
        }
    )
    change = adapter.delta("blocks.0.attn1.to_q.weight")
    assert change.dtype == torch.float32
    assert torch.equal(change, UP.bfloat16().float() @ DOWN.bfloat16().float())


REFUSED = [
    (
        {"blocks.0.self_attn.q.lora_mid.weight": DOWN},
        r"lora_mid\.weight matches no parameter of the model",
    ),
    (
        {"blocks.7.self_attn.q.diff": DOWN},
        r"blocks\.7\.self_attn\.q\.diff matches no parameter",
    ),
    (
        {"blocks.0.norm2.diff_m": DOWN},
        r"blocks\.0\.norm2\.diff_m matches no parameter",
    ),
    (
        {"blocks.0.self_attn.q.lora_down.weight": DOWN},
        r"self_attn\.q\.lora_down\.weight lacks the other half",
    ),
    (
        {"blocks.0.self_attn.q.alpha": torch.ones(1)},
        r"self_attn\.q\.alpha lacks the other half",
    ),
    (
        {
            "blocks.0.self_attn.q.lora_down.weight": noise(4, 64),
            "blocks.0.self_attn.q.lora_up.weight": UP,
        },
        r"\[128, 4\] by \[4, 64\]; the model has \[128, 128\]",
    ),
    (
        {
            "blocks.0.self_attn.q.lora_down.weight": DOWN,
            "blocks.0.self_attn.q.lora_up.weight": noise(128, 8),
        },
        r"\[128, 8\] by \[4, 128\]",
    ),
    (
        {
            "patch_embedding.diff": noise(128, 16, 1, 2, 2)
        },  # of the text-to-video model, which has 16 channels
        r"patch_embedding\.diff is \[128, 16, 1, 2, 2\]; the model has \[128, 36, 1, 2, 2\]",
    ),
]


@pytest.mark.parametrize(("tensors", "reason"), REFUSED)
def test_tensors_that_cannot_be_merged_are_refused_by_name(
    write: Write, tensors: dict[str, Tensor], reason: str
) -> None:
    with pytest.raises(PipelineLoadFailed, match=reason):
        write(tensors)


def test_a_file_that_is_no_safetensors_is_refused(
    parameters: dict[str, Size], tmp_path: Path
) -> None:
    (tmp_path / "adapter.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(PipelineLoadFailed, match=r"adapter\.safetensors cannot be read"):
        Adapter(tmp_path / "adapter.safetensors", parameters)
    with pytest.raises(PipelineLoadFailed, match=r"none\.safetensors cannot be read"):
        Adapter(tmp_path / "none.safetensors", parameters)


def test_a_file_of_the_text_to_video_model_changes_what_that_model_has(
    write: Write, parameters: dict[str, Size]
) -> None:
    # given rank-one pairs for every linear of a block that text-to-video has, under original names
    modules = [f"blocks.1.{kind}.{part}" for kind in ("self_attn", "cross_attn") for part in "qkvo"]
    modules += ["blocks.1.ffn.0", "blocks.1.ffn.2"]
    diffusers = dict(zip(modules, attention_and_feed_forward(), strict=True))
    tensors = {}
    for module, weight in diffusers.items():
        out, wide = parameters[weight]
        tensors |= {
            f"{module}.lora_A.weight": noise(1, wide),
            f"{module}.lora_B.weight": noise(out, 1),
        }
    # then exactly those change, and the image and the sound keep their weights
    assert {*write(tensors).shapes} == {*diffusers.values()}


def attention_and_feed_forward() -> list[str]:
    parts = [
        f"{kind}.{part}"
        for kind in ("attn1", "attn2")
        for part in ("to_q", "to_k", "to_v", "to_out.0")
    ]
    return [f"blocks.1.{part}.weight" for part in (*parts, "ffn.net.0.proj", "ffn.net.2")]
