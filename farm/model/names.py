"""What the published checkpoints call a tensor, and what we call it.

Source of the left sides: MeiGen-AI/InfiniteTalk and Wan 2.1 (transformer, text and image encoder, autoencoder). Each
table maps module names; `weight` and `bias` stay. Every table is one to one, so it reads in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

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


def _renamed(name: str, block: Mapping[str, str], top: Mapping[str, str]) -> str:
    def ours(match: re.Match[str]) -> str:
        prefix, stem, leaf = (part or "" for part in match.groups())
        return prefix + (block if prefix else top).get(stem, stem) + leaf

    return re.sub(r"^(blocks\.\d+\.)?(.+?)(\.weight|\.bias)?$", ours, name)
