"""One LoRA under every spelling of its names, merged into one transformer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Size, Tensor

from farm.errors import PipelineLoadFailed
from farm.model.checkpoints import load_part
from farm.model.lora import Adapter
from farm.model.lora_names import LoraNames, _underscored
from farm.model.parts import skeleton
from farm.model.variant import Variant, Variants
from farm.model.weights.key_maps import diffusers_transformer
from farm.presets import INFINITETALK
from tests.support.tiny_model import TINY_PRESET

MODULES = (
    "blocks.0.self_attn.q",
    "blocks.1.self_attn.o",
    "blocks.1.cross_attn.k_img",
    "blocks.0.ffn.0",
    "blocks.1.ffn.2",
    "blocks.1.audio_cross_attn.kv_linear",
    "audio_proj.proj2",
    "time_projection.1",
    "img_emb.proj.1",
    "head.head",
)
"""Linear modules by their original names."""


@pytest.fixture(scope="module")
def parameters() -> dict[str, Size]:
    model = skeleton("transformer", TINY_PRESET.parts["transformer"])
    return {name: each.shape for name, each in model.named_parameters()}


def diffusers(module: str) -> str:
    (name,) = diffusers_transformer({f"{module}.weight": 0})
    return name.removesuffix(".weight")


@pytest.fixture(scope="module")
def canonical(parameters: dict[str, Size]) -> dict[str, Tensor]:
    """Pairs of rank 4 with an alpha of 2, by the original names of their modules."""
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for module in MODULES:
        out, wide = parameters[f"{diffusers(module)}.weight"]
        tensors[f"{module}.lora_down.weight"] = torch.randn(4, wide, generator=generator)
        tensors[f"{module}.lora_up.weight"] = torch.randn(out, 4, generator=generator)
        tensors[f"{module}.alpha"] = torch.tensor(2.0)
    return tensors


def split(name: str) -> tuple[str, str]:
    """The module of a canonical name, and its role."""
    roles = (".lora_down.weight", ".lora_up.weight", ".alpha")
    role = next(each for each in roles if name.endswith(each))
    return name.removesuffix(role), role


def peft(role: str) -> str:
    return role.replace("lora_down", "lora_A").replace("lora_up", "lora_B")


def underscored(module: str) -> str:
    return module.replace(".", "_")


SPELLINGS: dict[str, Callable[[str, str], str]] = {
    "lora_unet_, original": lambda module, role: f"lora_unet_{underscored(module)}{role}",
    "lora_unet_, diffusers": lambda module, role: (
        f"lora_unet_{underscored(diffusers(module))}{role}"
    ),
    "lora_unet__, original": lambda module, role: f"lora_unet__{underscored(module)}{role}",
    "base_model.model., original": lambda module, role: f"base_model.model.{module}{peft(role)}",
    "base_model.model., diffusers": lambda module, role: (
        f"base_model.model.{diffusers(module)}{peft(role)}"
    ),
    "model.diffusion_model., original": lambda module, role: (
        f"model.diffusion_model.{module}{role}"
    ),
    "diffusion_model., original": lambda module, role: f"diffusion_model.{module}{peft(role)}",
    "pipe.dit., original": lambda module, role: (
        f"pipe.dit.{module}{peft(role).replace('.weight', '.default.weight')}"
    ),
    "transformer., diffusers": lambda module, role: f"transformer.{diffusers(module)}{peft(role)}",
    "no prefix, diffusers": lambda module, role: f"{diffusers(module)}{peft(role)}",
    "multitalk_audio_proj": lambda module, role: (
        "diffusion_model." + module.replace("audio_proj.", "multitalk_audio_proj.") + role
    ),
}


@pytest.fixture(scope="module")
def base(weights: Path) -> dict[str, Tensor]:
    return load_file(weights / "transformer" / "diffusion_pytorch_model.safetensors")


@pytest.fixture
def merged(weights: Path, base: dict[str, Tensor]) -> Callable[[Path], dict[str, Tensor]]:
    """All weights of the transformer with one LoRA file merged into them."""

    def weights_with(file: Path) -> dict[str, Tensor]:
        model = load_part(weights, "transformer", dtype="float32")
        Variants(model, base, "cpu").switch(Variant(adapters=((file, 0.8),)))
        return {name: each.detach() for name, each in model.named_parameters()}

    return weights_with


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_merged_bit_for_bit_as_the_original_one(
    spelling: str,
    canonical: dict[str, Tensor],
    merged: Callable[[Path], dict[str, Tensor]],
    base: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    # given the same tensors under original names without a prefix, and in another spelling
    renamed = {SPELLINGS[spelling](*split(name)): each for name, each in canonical.items()}
    assert renamed.keys() != canonical.keys()
    save_file(canonical, tmp_path / "canonical.safetensors")
    save_file(renamed, tmp_path / "renamed.safetensors")
    # when both are merged
    expected = merged(tmp_path / "canonical.safetensors")
    found = merged(tmp_path / "renamed.safetensors")
    # then every weight is the same, and those of the modules have changed
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    changed = {name for name in base if not torch.equal(found[name], base[name])}
    assert changed == {f"{diffusers(module)}.weight" for module in MODULES}


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if "," in name])
def test_a_file_says_how_it_is_spelled(
    spelling: str, canonical: dict[str, Tensor], parameters: dict[str, Size], tmp_path: Path
) -> None:
    renamed = {SPELLINGS[spelling](*split(name)): each for name, each in canonical.items()}
    save_file(renamed, tmp_path / "renamed.safetensors")
    adapter = Adapter(tmp_path / "renamed.safetensors", parameters)
    assert adapter.spelling == f"{spelling} names"
    assert (len(adapter), adapter.ranks, len(adapter.shapes)) == (3 * len(MODULES), [4], 10)


def test_underscored_names_of_the_14b_have_one_meaning_each() -> None:
    model = skeleton("transformer", INFINITETALK.parts["transformer"])
    names = LoraNames(name for name, _ in model.named_parameters())
    dotted = {name.replace(".", "_"): parameter for name, (parameter, _) in names._meanings.items()}
    found = {
        name.removeprefix(".").replace(".", "_"): parameter
        for name, (parameter, _) in names._underscored.items()
    }
    assert found == dotted
    # and each parameter that a module of the original has is found by its underscored name
    target = names.target("lora_unet_blocks_39_cross_attn_k_img.lora_down.weight")
    assert target is not None
    assert target.parameter == "blocks.39.attn2.add_k_proj.weight"


def test_an_underscored_name_with_two_meanings_has_none() -> None:
    meanings = {"a.b_c.weight": ("one", ""), "a_b.c.weight": ("two", ""), "d.e.weight": ("3", "")}
    assert _underscored(meanings) == {"d_e.weight": ("3", "")}


def test_the_bias_of_lora_b_is_scaled_as_its_pair(
    parameters: dict[str, Size], tmp_path: Path
) -> None:
    stem = "transformer.blocks.0.attn1.to_q"
    bias = torch.arange(128.0)
    tensors = {
        f"{stem}.lora_A.weight": torch.ones(4, 128),
        f"{stem}.lora_B.weight": torch.ones(128, 4),
        f"{stem}.lora_B.bias": bias,
    }
    for alpha, factor in ((None, 1.0), (2.0, 0.5)):
        scaled = {} if alpha is None else {f"{stem}.alpha": torch.tensor(alpha)}
        save_file(tensors | scaled, tmp_path / f"{factor}.safetensors")
        adapter = Adapter(tmp_path / f"{factor}.safetensors", parameters)
        assert torch.equal(adapter.delta("blocks.0.attn1.to_q.bias"), bias * factor)


PAIR = {
    "transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(4, 128),
    "transformer.blocks.0.attn1.to_q.lora_B.weight": torch.ones(128, 4),
}


def test_the_alpha_in_diffusers_metadata_counts(
    parameters: dict[str, Size], tmp_path: Path
) -> None:
    stated = json.dumps({"transformer.r": 4, "transformer.lora_alpha": 8})
    save_file(PAIR, tmp_path / "lora.safetensors", metadata={"lora_adapter_metadata": stated})
    delta = Adapter(tmp_path / "lora.safetensors", parameters).delta("blocks.0.attn1.to_q.weight")
    assert torch.equal(delta, torch.full((128, 128), 4.0 * 2))


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ('{"transformer.use_rslora": true}', "its metadata sets use_rslora, which is not read"),
        ('{"alpha_pattern": {"q": 1}}', "its metadata sets alpha_pattern, which is not read"),
        ("[]", "its metadata cannot be read"),
        ("{", "its metadata cannot be read"),
    ],
)
def test_metadata_that_is_not_understood_is_refused(
    stated: str, reason: str, parameters: dict[str, Size], tmp_path: Path
) -> None:
    save_file(PAIR, tmp_path / "lora.safetensors", metadata={"lora_adapter_metadata": stated})
    with pytest.raises(PipelineLoadFailed, match=reason):
        Adapter(tmp_path / "lora.safetensors", parameters)


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ({"r": 4, "lora_alpha": 8}, r"scales it by 2, .*let jobs ask for that scale"),
        ({"r": 4, "lora_alpha": 4, "use_rslora": True}, "sets use_rslora, which is not read"),
        ({"alpha_pattern": {"q": 8}}, "sets alpha_pattern, .* with an alpha for each module"),
        ({"r": 4, "lora_alpha": None}, "is not a configuration"),
        ([], "is not a configuration"),
    ],
)
def test_a_file_that_pefts_configuration_beside_it_scales_is_refused(
    configuration: object, reason: str, parameters: dict[str, Size], tmp_path: Path
) -> None:
    save_file(PAIR, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(configuration))
    with pytest.raises(PipelineLoadFailed, match=reason):
        Adapter(tmp_path / "adapter_model.safetensors", parameters)


def test_a_file_that_pefts_configuration_does_not_scale_is_read(
    parameters: dict[str, Size], tmp_path: Path
) -> None:
    save_file(PAIR, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 4}')
    assert Adapter(tmp_path / "adapter_model.safetensors", parameters).ranks == [4]


STEM = "lora_unet_blocks_0_self_attn_q"
REFUSED = [
    ({f"{STEM}.lokr_w1": torch.ones(2, 2)}, f"LoKr is not merged .{STEM}.lokr_w1.; convert"),
    ({f"{STEM}.hada_w1_a": torch.ones(2, 2)}, f"LoHa is not merged .{STEM}.hada_w1_a.; convert"),
    (
        {**PAIR, "transformer.blocks.0.attn1.to_q.dora_scale": torch.ones(128)},
        r"DoRA is not merged .transformer.blocks.0.attn1.to_q.dora_scale.; convert",
    ),
    (
        {**PAIR, "transformer.blocks.0.attn1.to_q.lora_magnitude_vector": torch.ones(128)},
        "DoRA is not merged",
    ),
    (
        {**PAIR, **{f"blocks.{number}.nothing.diff": torch.ones(1) for number in range(5)}},
        "blocks.0.nothing.diff, blocks.1.nothing.diff, blocks.2.nothing.diff and 2 more match no",
    ),
    (
        {f"double_blocks.{number}.lora_A.weight": torch.ones(1) for number in range(4)},
        "double_blocks.0.* and 1 more match no parameter of the model, nor does any other of its "
        "tensors: it was trained for another model",
    ),
    (
        {**PAIR, "blocks.0.self_attn.q.lora_down.weight": torch.ones(4, 128)},
        "mean the same",
    ),
    ({}, "holds no tensors"),
    (
        {"transformer.blocks.0.attn1.to_q.lora_B.bias": torch.ones(128)},
        "lora_B.bias lacks the other half of its pair",
    ),
    (
        {**PAIR, "transformer.blocks.0.attn1.to_q.lora_A.bias": torch.ones(4)},
        "lora_A.bias matches no parameter",
    ),
    (
        {**PAIR, "transformer.blocks.0.attn1.to_q.alpha": torch.ones(128)},
        r"alpha is \[128\]; allowed: one number",
    ),
    (
        {
            "blocks.0.ffn.0.lora_down.weight": torch.ones(4, 256),
            "blocks.0.ffn.0.lora_up.weight": torch.ones(128, 4),
        },  # transposed, with as many elements as the weight
        r"\[128, 4\] by \[4, 256\]; the model has \[256, 128\]",
    ),
    (
        {"blocks.0.ffn.0.diff": torch.ones(128, 256)},
        r"diff is \[128, 256\]; the model has \[256, 128\]",
    ),
]


@pytest.mark.parametrize(("tensors", "reason"), REFUSED)
def test_a_file_of_which_something_would_be_left_out_is_refused(
    tensors: dict[str, Tensor], reason: str, parameters: dict[str, Size], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(PipelineLoadFailed, match=reason):
        Adapter(tmp_path / "lora.safetensors", parameters)
