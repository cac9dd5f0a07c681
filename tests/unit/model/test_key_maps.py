from __future__ import annotations

import gguf
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

from farm.model.parts import build, skeleton, tensor_shapes
from farm.model.weights.key_maps import (
    TEXT_KEYS,
    TEXT_LLAMA_KEYS,
    autoencoder_keys,
    bare_image_encoder,
    diffusers_audio_encoder,
    diffusers_autoencoder,
    diffusers_image_encoder,
    diffusers_text_encoder,
    diffusers_transformer,
    original_transformer,
)
from farm.presets import PRESETS, Preset, preset
from tests.support.tiny_model import TINY_PRESET


def names_of(model: Preset, part: str) -> list[str]:
    return list(tensor_shapes(skeleton(part, model.parts[part])))


@pytest.mark.parametrize(
    ("original", "diffusers"),
    [
        ("blocks.7.cross_attn.k_img.weight", "blocks.7.attn2.add_k_proj.weight"),
        (
            "blocks.7.audio_cross_attn.kv_linear.bias",
            "blocks.7.attn_audio.to_kv.bias",
        ),
        (
            "blocks.7.audio_cross_attn.proj.weight",
            "blocks.7.attn_audio.to_out.0.weight",
        ),
        ("blocks.7.norm3.weight", "blocks.7.norm2.weight"),
        ("blocks.7.norm_x.weight", "blocks.7.norm_audio.weight"),
        ("blocks.17.modulation", "blocks.17.scale_shift_table"),
        ("head.modulation", "scale_shift_table"),
        ("head.head.bias", "proj_out.bias"),
        ("audio_proj.proj1_vf.weight", "audio_proj.proj1_vf.weight"),
        ("img_emb.proj.4.weight", "condition_embedder.image_embedder.norm2.weight"),
    ],
)
def test_original_names_become_diffusers_names(original: str, diffusers: str) -> None:
    assert diffusers_transformer({original: 1}) == {diffusers: 1}


def test_every_name_of_the_14b_reads_in_both_directions() -> None:
    names = dict.fromkeys(names_of(preset("infinitetalk-480"), "transformer"), 0)
    originals = original_transformer(names)
    assert len(originals) == len(names)
    assert diffusers_transformer(originals) == names
    assert not [
        name
        for name in originals
        if "attn1" in name or "scale_shift" in name or "condition" in name
    ]


def test_a_text_encoders_names_become_exactly_those_of_its_model() -> None:
    expected = {
        "token_embedding.weight": "shared.weight",
        "norm.weight": "encoder.final_layer_norm.weight",
    }
    for block in range(2):
        original = f"blocks.{block}"
        diffusers = f"encoder.block.{block}"
        expected |= {
            f"{original}.attn.{part}.weight": f"{diffusers}.layer.0.SelfAttention.{part}.weight"
            for part in "qkvo"
        }
        expected |= {
            f"{original}.norm1.weight": f"{diffusers}.layer.0.layer_norm.weight",
            f"{original}.pos_embedding.embedding.weight": (
                f"{diffusers}.layer.0.SelfAttention.relative_attention_bias.weight"
            ),
            f"{original}.norm2.weight": f"{diffusers}.layer.1.layer_norm.weight",
            f"{original}.ffn.gate.0.weight": f"{diffusers}.layer.1.DenseReluDense.wi_0.weight",
            f"{original}.ffn.fc1.weight": f"{diffusers}.layer.1.DenseReluDense.wi_1.weight",
            f"{original}.ffn.fc2.weight": f"{diffusers}.layer.1.DenseReluDense.wo.weight",
        }
    assert diffusers_text_encoder({name: name for name in expected}) == {
        diffusers: name for name, diffusers in expected.items()
    }
    assert set(expected.values()) == set(names_of(TINY_PRESET, "text_encoder"))
    assert {TEXT_KEYS.to_original(name) for name in expected.values()} == set(expected)


def test_an_image_encoders_tensors_become_exactly_those_of_its_model() -> None:
    model = build("image_encoder", TINY_PRESET.parts["image_encoder"])
    expected = model.state_dict()
    # given the model's own tensors as the original file holds them, with a text half that is not
    # wanted
    original = {
        "textual.log_scale": torch.zeros(1),
        "visual.head": torch.zeros(64, 8),
        "visual.cls_embedding": expected["embeddings.class_embedding"][None, None],
        "visual.pos_embedding": expected["embeddings.position_embedding.weight"][None],
        "visual.patch_embedding.weight": expected["embeddings.patch_embedding.weight"],
    }
    for norm, stem in (
        ("pre_norm", "pre_layrnorm"),
        ("post_norm", "post_layernorm"),
    ):
        original |= {
            f"visual.{norm}.{leaf}": expected[f"{stem}.{leaf}"] for leaf in ("weight", "bias")
        }
    renames = {
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "attn.proj": "self_attn.out_proj",
    }
    renames |= {"mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    for block in range(3):
        blocks = f"visual.transformer.{block}"
        layers = f"encoder.layers.{block}"
        for leaf in ("weight", "bias"):
            original |= {
                f"{blocks}.{a}.{leaf}": expected[f"{layers}.{b}.{leaf}"] for a, b in renames.items()
            }
            rows = [expected[f"{layers}.self_attn.{part}_proj.{leaf}"] for part in "qkv"]
            original[f"{blocks}.attn.to_qkv.{leaf}"] = torch.cat(rows)
    # then the conversion gives them back
    converted = diffusers_image_encoder(original)
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


def test_an_image_encoder_of_diffusers_layout_is_the_bare_model_after_its_prefix_goes() -> None:
    names = [
        "vision_model.pre_layrnorm.bias",
        "vision_model.embeddings.position_ids",
        "visual_projection.weight",
    ]
    assert bare_image_encoder(dict.fromkeys(names, 0)) == {"pre_layrnorm.bias": 0}


@pytest.mark.parametrize("each", PRESETS.values(), ids=lambda each: each.name)
def test_every_name_of_an_autoencoder_reads_in_both_directions(
    each: Preset,
) -> None:
    # given a decoder whose stages are as long as its configuration says
    res_blocks = each.parts["vae"].get("num_res_blocks", 2)
    keys = autoencoder_keys(res_blocks)
    names = names_of(each, "vae")
    # then every name has an original, and that is one of the original layout
    originals = [keys.to_original(name) for name in names]
    assert len(set(originals)) == len(names)
    assert list(diffusers_autoencoder(dict.fromkeys(originals, 0), res_blocks=res_blocks)) == names
    assert not [
        name for name in originals if "block" in name or "resnets" in name or "norm1" in name
    ]


def test_the_full_size_autoencoders_names_are_those_of_diffusers_own_converter() -> None:
    originals = [
        autoencoder_keys(2).to_original(name)
        for name in names_of(preset("infinitetalk-480"), "vae")
    ]
    tensors = {name: name for name in originals}
    assert diffusers_autoencoder(tensors) == convert_wan_vae_to_diffusers(dict(tensors))


@pytest.mark.parametrize("prefix", ["", "wav2vec2."])
@pytest.mark.parametrize("factor", ["weight_g", "parametrizations.weight.original0"])
def test_an_audio_encoder_loses_its_training_heads_and_gets_current_names(
    prefix: str, factor: str
) -> None:
    originals = [
        f"{prefix}encoder.pos_conv_embed.conv.{factor}",
        f"{prefix}encoder.layer_norm.bias",
    ]
    training = [
        "quantizer.codevectors",
        "project_q.bias",
        "lm_head.weight",
        f"{prefix}masked_spec_embed",
    ]
    assert list(diffusers_audio_encoder(dict.fromkeys(originals + training, 0))) == [
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        "encoder.layer_norm.bias",
    ]


def test_the_names_of_llama_cpp_are_those_of_the_gguf_package() -> None:
    config = preset("infinitetalk-480").parts["text_encoder"]
    theirs = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, config["num_layers"])
    for name in tensor_shapes(skeleton("text_encoder", config)):
        assert TEXT_LLAMA_KEYS.to_original(name) == theirs.get_name(name, (".weight",))
