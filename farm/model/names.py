"""What the published checkpoints call a tensor, and what we call it.

Source of the left sides: MeiGen-AI/InfiniteTalk and Wan 2.1 (transformer, text and image encoder, autoencoder). Each
table maps module names; `weight` and `bias` stay. Every table is one to one, so it reads in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from torch import Tensor

Anything = TypeVar("Anything")

TRANSFORMER_BLOCK = {
    "modulation": "scale_shift_table",
    **{f"self_attn.{part}": f"attn1.to_{part}" for part in "qkv"},
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    **{f"cross_attn.{part}": f"attn2.to_{part}" for part in "qkv"},
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "norm3": "norm2",  # the affine norm; the two norms without weights leave no tensors
    "norm_x": "norm_audio",
    "audio_cross_attn.q_linear": "attn_audio.to_q",
    "audio_cross_attn.kv_linear": "attn_audio.to_kv",
    "audio_cross_attn.proj": "attn_audio.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}

TRANSFORMER = {
    "patch_embedding": "patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    **{f"audio_proj.{part}": f"audio_proj.{part}" for part in ("proj1", "proj1_vf", "proj2", "proj3", "norm")},
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}

TEXT_BLOCK = {
    "norm1": "layer.0.layer_norm",
    **{f"attn.{part}": f"layer.0.SelfAttention.{part}" for part in "qkvo"},
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}

IMAGE_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    **{f"attn.{part}": f"self_attn.{part}_proj" for part in "qkv"},
    "attn.proj": "self_attn.out_proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}


def native_transformer(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """An original InfiniteTalk state dict under our names; an unknown name stays, for the loader to refuse."""
    return {_renamed(name, TRANSFORMER_BLOCK, TRANSFORMER): tensor for name, tensor in tensors.items()}


def original_transformer(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """The other way round."""
    block, top = ({ours: theirs for theirs, ours in table.items()} for table in (TRANSFORMER_BLOCK, TRANSFORMER))
    return {_renamed(name, block, top): tensor for name, tensor in tensors.items()}


def native_autoencoder(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """An original Wan 2.1 VAE state dict under diffusers' names."""
    renamed: dict[str, Any] = convert_wan_vae_to_diffusers(dict(tensors))
    return renamed


def native_text_encoder(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """An original UMT5 state dict under transformers' names; the shared embedding is named once for each user of it."""
    top = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}
    renamed = {
        _renamed(name, TEXT_BLOCK, top).replace("blocks.", "encoder.block."): tensor for name, tensor in tensors.items()
    }
    return renamed | {"encoder.embed_tokens.weight": renamed["shared.weight"]}


def native_image_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The picture half of an original CLIP state dict under transformers' names.

    Its queries, keys and values lie in one matrix, its single embeddings have leading axes of one, and its head is not
    used.
    """
    top = {"patch_embedding": "embeddings.patch_embedding", "pre_norm": "pre_layrnorm", "post_norm": "post_layernorm"}
    native = {
        "embeddings.class_embedding": tensors["visual.cls_embedding"][0, 0],
        "embeddings.position_embedding.weight": tensors["visual.pos_embedding"][0],
    }
    for name, tensor in tensors.items():
        side, _, rest = name.partition(".")
        if side != "visual" or rest in ("cls_embedding", "pos_embedding", "head"):
            continue
        parts = zip("qkv", tensor.chunk(3), strict=True) if "to_qkv" in rest else [("qkv", tensor)]
        for part, rows in parts:
            block = rest.replace("transformer.", "blocks.").replace("to_qkv", part)
            native[_renamed(block, IMAGE_BLOCK, top).replace("blocks.", "encoder.layers.")] = rows
    return native


def _renamed(name: str, block: Mapping[str, str], top: Mapping[str, str]) -> str:
    def ours(match: re.Match[str]) -> str:
        prefix, stem, leaf = (part or "" for part in match.groups())
        return prefix + (block if prefix else top).get(stem, stem) + leaf

    return re.sub(r"^(blocks\.\d+\.)?(.+?)(\.weight|\.bias)?$", ours, name)
