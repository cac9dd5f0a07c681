from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from farm.model.parts import skeleton, tensor_shapes
from farm.model.weights.containers import open_weights
from farm.model.weights.identify import Identity, identify, models
from farm.model.weights.key_maps import (
    IMAGE_KEYS,
    TEXT_KEYS,
    TEXT_LLAMA_KEYS,
    TRANSFORMER_KEYS,
    autoencoder_keys,
)
from farm.model.weights.naming import naming
from farm.model.weights.tensorfile import TensorInfo
from farm.presets import INFINITETALK
from tests.unit.model import community
from tests.unit.model.community import SAVES, Save

Shapes = dict[str, tuple[int, ...]]


class Listed:
    """A file of which only the header counts."""

    path = Path("model")
    container = "safetensors"

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.info = {
            name: TensorInfo(torch.Size(shape), torch.bfloat16) for name, shape in shapes.items()
        }

    def read(self, name: str) -> torch.Tensor:
        raise AssertionError(f"{name} is read, and only names and shapes should be")


def wan(width: int, channels: int, *, image: bool = False, **more: tuple[int, ...]) -> Shapes:
    """Some tensors of a Wan transformer under their original names."""
    shapes: Shapes = {
        "patch_embedding.weight": (width, channels, 1, 2, 2),
        "blocks.0.self_attn.q.weight": (width, width),
    }
    if image:
        shapes["img_emb.proj.1.weight"] = (1280, 1280)
    return shapes | {name.replace("__", "."): shape for name, shape in more.items()}


PEOPLE_HAVE: dict[str, tuple[Shapes, str]] = {
    "I2V": (wan(5120, 36, image=True), "Wan 2.1 I2V (480P or 720P) 14B"),
    "T2V": (wan(5120, 16), "Wan 2.1 or 2.2 T2V 14B"),
    "small T2V": (wan(1536, 16), "Wan 2.1 or 2.2 T2V 1.3B"),
    "I2V of 2.2": (wan(5120, 36), "Wan 2.2 I2V 14B"),
    "TI2V": (wan(3072, 48), "Wan 2.2 TI2V 5B"),
    "control": (wan(5120, 52, image=True), "a Wan transformer of 52 input channels 14B"),
    "FLF2V": (wan(5120, 36, image=True, img_emb__emb_pos=(1, 514, 1280)), "Wan 2.1 FLF2V"),
    "VACE": (wan(5120, 16, vace_blocks__0__after_proj__weight=(5120, 5120)), "Wan VACE"),
    "animate": (wan(5120, 36, pose_patch_embedding__weight=(5120, 16)), "Wan 2.2 Animate"),
    "audio layers": (
        {"blocks.0.audio_cross_attn.q_linear.weight": (5120, 5120), "audio_proj.norm.bias": (768,)},
        "the audio layers of InfiniteTalk or MultiTalk 14B",
    ),
    "a whole one": (
        wan(5120, 36, image=True, blocks__0__audio_cross_attn__q_linear__weight=(5120, 5120)),
        "Wan 2.1 I2V (480P or 720P) 14B with the audio layers of InfiniteTalk or MultiTalk 14B",
    ),
    "a shard": ({"blocks.3.self_attn.q.weight": (5120, 5120)}, "a piece of Wan"),
    "UMT5": (
        {
            "shared.weight": (256384, 4096),
            "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
        },
        "UMT5-XXL (safetensors of bfloat16, transformers' names)",
    ),
    "T5 of Flux": (
        {
            "shared.weight": (32128, 4096),
            "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
        },
        "T5-XXL",
    ),
    "T5 of llama.cpp": (
        {"token_embd.weight": (256384, 4096), "enc.blk.0.attn_q.weight": (4096, 4096)},
        "UMT5-XXL (safetensors of bfloat16, llama.cpp's names)",
    ),
    "CLIP H": (
        {"vision_model.embeddings.patch_embedding.weight": (1280, 3, 14, 14)},
        "CLIP ViT-H/14",
    ),
    "CLIP L": (
        {"vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14)},
        "CLIP ViT-L/14",
    ),
    "SigLIP": (
        {"vision_model.embeddings.patch_embedding.weight": (1152, 3, 14, 14)},
        "SigLIP",
    ),
    "CLIP without its prefix": (
        {
            "transformer.0.attn.to_qkv.weight": (3840, 1280),
            "patch_embedding.weight": (1280, 3, 14, 14),
        },
        "CLIP ViT-H/14 (safetensors of bfloat16, original names)",
    ),
    "VAE 2.2": (
        {
            "decoder.head.0.gamma": (256, 1, 1, 1),
            "encoder.conv1.weight": (160, 12, 3, 3, 3),
            "conv2.weight": (48, 48, 1, 1, 1),
        },
        "the Wan 2.2 VAE",
    ),
    "wav2vec2 of words": (
        {
            "wav2vec2.feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
            "wav2vec2.feature_projection.projection.weight": (768, 512),
            "lm_head.weight": (32, 768),
        },
        "wav2vec2 base fine-tuned to recognise words",
    ),
    "wav2vec2 large": (
        {
            "feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
            "feature_projection.projection.weight": (1024, 512),
        },
        "wav2vec2 large",
    ),
    "LoRA": (
        {"diffusion_model.blocks.0.self_attn.q.lora_down.weight": (64, 5120)},
        "a LoRA, which belongs into FARM_LORAS",
    ),
    "Flux": ({"double_blocks.0.img_attn.qkv.weight": (9, 3)}, "a transformer of Flux"),
    "a VAE of Flux": ({"decoder.up.0.block.0.norm1.weight": (128,)}, "an autoencoder for images"),
    "Whisper": ({"model.encoder.layers.0.fc1.weight": (4, 4)}, "Whisper"),
    "a language model": ({"blk.0.attn_q.weight": (4, 4)}, "a language model"),
    "anything": ({"b.weight": (4, 4), "a.weight": (4, 4)}, "it begins with a.weight, b.weight"),
    "nothing": ({}, "no tensors"),
}


@pytest.mark.parametrize(("shapes", "expected"), PEOPLE_HAVE.values(), ids=PEOPLE_HAVE)
def test_weights_are_told_by_names_and_shapes(shapes: Shapes, expected: str) -> None:
    assert expected in str(identify([Listed(shapes)]))


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", "model."])
def test_a_prefix_before_all_names_changes_nothing(prefix: str) -> None:
    shapes = {prefix + name: shape for name, shape in wan(5120, 36, image=True).items()}
    found = identify([Listed(shapes)])
    assert found.models == {"transformer": "Wan 2.1 I2V (480P or 720P) 14B"}
    assert found.naming is not None
    assert set(found.naming.to_diffusers({f"{prefix}head.head.bias": torch.ones(1)})) == {
        "proj_out.bias"
    }
    assert found.naming.to_original("proj_out.bias") == f"{prefix}head.head.bias"


ORIGINAL = {
    "transformer": TRANSFORMER_KEYS.to_original,
    "text_encoder": TEXT_KEYS.to_original,
    "image_encoder": IMAGE_KEYS.to_original,
    "vae": autoencoder_keys(2).to_original,
    "audio_encoder": "wav2vec2.{}".format,
}


@pytest.mark.parametrize("part", INFINITETALK.parts)
def test_the_parts_of_the_real_model_are_found_by_original_and_by_diffusers_names(
    part: str,
) -> None:
    shapes = tensor_shapes(skeleton(part, INFINITETALK.parts[part]))
    assert set(models(part, shapes).values()) <= {
        "Wan 2.1 I2V (480P or 720P) 14B",
        "the audio layers of InfiniteTalk or MultiTalk 14B",
        "UMT5-XXL",
        "CLIP ViT-H/14",
        "the Wan 2.1 VAE",
        "wav2vec2 base",
    }
    for rename in (str, ORIGINAL[part]):
        names = [rename(name) for name in shapes]
        if part == "image_encoder":
            names = [name.replace(".attn.q.", ".attn.to_qkv.") for name in names]
        found = naming(names)
        assert found is not None
        assert found.part == part


def test_the_names_of_llama_cpp_are_a_third_for_the_text_encoder() -> None:
    shapes = tensor_shapes(skeleton("text_encoder", INFINITETALK.parts["text_encoder"]))
    names = [TEXT_LLAMA_KEYS.to_original(name) for name in shapes]
    found = naming(names)
    assert found is not None
    assert set(found.to_diffusers(dict.fromkeys(names, torch.ones(1)))) == set(shapes)
    assert not set(names) & set(shapes)


STORAGE = {
    "safetensors of bfloat16": "safetensors of bfloat16",
    "pickle of bfloat16": "pickle of bfloat16",
    "GGUF Q8_0": "GGUF of Q8_0",
    "fp8": "safetensors of fp8 e4m3",
    "fp8 with scale_weight": "safetensors of fp8 e4m3 with scales",
    "quanto int8": "safetensors of int8 of quanto",
}


@pytest.mark.parametrize("kind", STORAGE)
@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model.gguf", "model"])
def test_a_container_is_told_by_its_bytes_whatever_the_file_is_called(
    kind: str, name: str, weights: Path, tmp_path: Path
) -> None:
    save: Save = SAVES[kind]
    found = identify([open_weights(save(community.transformer(weights), tmp_path / name))])
    assert found.storage.startswith(STORAGE[kind])
    assert set(found.models) == {"transformer", "infinitetalk"}


def test_shapes_that_no_model_has_are_no_model() -> None:
    found = identify([Listed({"visual.transformer.0.attn.to_qkv.weight": ()})])
    assert not found.models
    assert "nothing that the farm loads" in str(found)
    for name in (*wan(5120, 36), "blocks.0.audio_cross_attn.q_linear.weight"):
        assert isinstance(identify([Listed({name: ()})]), Identity)


def test_names_of_several_files_count_together(tmp_path: Path) -> None:
    one, other = (tmp_path / name for name in "ab")
    save_file({"blocks.0.self_attn.q.weight": torch.ones(128, 128)}, one)
    save_file({"patch_embedding.weight": torch.ones(128, 16, 1, 2, 2)}, other)
    found = identify([open_weights(one), open_weights(other)])
    assert found.models == {"transformer": "Wan 2.1 or 2.2 T2V of width 128"}
