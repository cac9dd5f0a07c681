"""What the published checkpoints call a tensor, and what we call it.

Source of the left sides: MeiGen-AI/InfiniteTalk and Wan 2.1 (transformer, text and image encoder, autoencoder), and
transformers' wav2vec2. Each table maps module names; `weight` and `bias` stay. Every table is one to one, so it reads
in both directions. All functions work on any part of a state dict, down to a single tensor; a name that they don't
know stays, for `farm.model.weights.check` to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

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
    **{
        f"audio_proj.{part}": f"audio_proj.{part}"
        for part in ("proj1", "proj1_vf", "proj2", "proj3", "norm")
    },
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}

TEXT = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}

TEXT_BLOCK = {
    "norm1": "layer.0.layer_norm",
    **{f"attn.{part}": f"layer.0.SelfAttention.{part}" for part in "qkvo"},
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}

IMAGE = {
    "visual.cls_embedding": "embeddings.class_embedding",
    "visual.pos_embedding": "embeddings.position_embedding.weight",
    "visual.patch_embedding": "embeddings.patch_embedding",
    "visual.pre_norm": "pre_layrnorm",
    "visual.post_norm": "post_layernorm",
}

IMAGE_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    **{f"attn.{part}": f"self_attn.{part}_proj" for part in "qkv"},
    "attn.proj": "self_attn.out_proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}


AUTOENCODER_SIDE = {
    "conv1": "conv_in",
    "head.0.gamma": "norm_out.gamma",
    "head.2": "conv_out",
}

AUTOENCODER_BLOCK = {
    "residual.0.gamma": "norm1.gamma",
    "residual.2": "conv1",
    "residual.3.gamma": "norm2.gamma",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
    **{same: same for same in ("resample.1", "time_conv", "norm.gamma", "to_qkv", "proj")},
}

AUDIO = {
    f"encoder.pos_conv_embed.conv.weight_{theirs}": f"encoder.pos_conv_embed.conv.parametrizations.weight.{ours}"
    for theirs, ours in (("g", "original0"), ("v", "original1"))
}

AUDIO_TRAINING = (
    "quantizer.",
    "project_hid.",
    "project_q.",
    "lm_head.",
    "masked_spec_embed",
)
"""What only training needs: the contrastive head, a recogniser's head, the vector of masked frames."""


class Naming:
    """One published naming, read in both directions: modules at the top, and modules of a numbered block."""

    def __init__(
        self,
        top: Mapping[str, str],
        block: Mapping[str, str] | None = None,
        *,
        theirs: str = "blocks",
        ours: str = "",
    ) -> None:
        self._blocks = theirs, ours or theirs
        self._native = dict(top), dict(block or {})
        self._original = tuple(
            {here: there for there, here in table.items()} for table in self._native
        )

    def native(self, name: str) -> str:
        """Our name of an original tensor."""
        return self._renamed(name, self._native, self._blocks)

    def original(self, name: str) -> str:
        """The original name of our tensor."""
        return self._renamed(name, self._original, self._blocks[::-1])

    @staticmethod
    def _renamed(name: str, tables: tuple[dict[str, str], ...], blocks: tuple[str, ...]) -> str:
        top, block = tables
        if numbered := re.fullmatch(rf"{re.escape(blocks[0])}\.(\d+)\.(.+)", name):
            return f"{blocks[1]}.{numbered[1]}.{_looked_up(numbered[2], block)}"
        return _looked_up(name, top)


def _looked_up(name: str, table: Mapping[str, str]) -> str:
    """Some tables name a tensor, most a module whose `weight` and `bias` keep their names."""
    if name in table:
        return table[name]
    stem, dot, leaf = name.rpartition(".")
    return table.get(stem, stem) + dot + leaf


def autoencoder_naming(res_blocks: int) -> Naming:
    """Of a Wan 2.1 autoencoder of four stages with `res_blocks` residual blocks in each: 2 in the published one.

    The original counts residual blocks and resamplers of all stages in one row. Our encoder does so too; our decoder
    counts them by stage, where each has one residual block more than the encoder's.
    """
    top = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
    for side in ("encoder", "decoder"):
        top |= {f"{side}.{theirs}": f"{side}.{ours}" for theirs, ours in AUTOENCODER_SIDE.items()}
        for there, here in (
            ("middle.0", "resnets.0"),
            ("middle.1", "attentions.0"),
            ("middle.2", "resnets.1"),
        ):
            top |= _moved(f"{side}.{there}", f"{side}.mid_block.{here}")
    for place in range(4 * (res_blocks + 1) - 1):
        top |= _moved(f"encoder.downsamples.{place}", f"encoder.down_blocks.{place}")
    for place in range(4 * (res_blocks + 2) - 1):
        stage, within = divmod(place, res_blocks + 2)
        here = f"resnets.{within}" if within <= res_blocks else "upsamplers.0"
        top |= _moved(f"decoder.upsamples.{place}", f"decoder.up_blocks.{stage}.{here}")
    return Naming(top)


def _moved(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{there}": f"{ours}.{here}" for there, here in AUTOENCODER_BLOCK.items()}


TRANSFORMER_NAMING = Naming(TRANSFORMER, TRANSFORMER_BLOCK)
TEXT_NAMING = Naming(TEXT, TEXT_BLOCK, ours="encoder.block")
IMAGE_NAMING = Naming(IMAGE, IMAGE_BLOCK, theirs="visual.transformer", ours="encoder.layers")
AUDIO_NAMING = Naming(AUDIO)


def native_transformer(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """An original InfiniteTalk state dict under our names."""
    return {TRANSFORMER_NAMING.native(name): tensor for name, tensor in tensors.items()}


def original_transformer(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """The other way round."""
    return {TRANSFORMER_NAMING.original(name): tensor for name, tensor in tensors.items()}


def native_autoencoder(
    tensors: Mapping[str, Anything], *, res_blocks: int = 2
) -> dict[str, Anything]:
    """An original Wan 2.1 VAE state dict under diffusers' names."""
    naming = autoencoder_naming(res_blocks)
    return {naming.native(name): tensor for name, tensor in tensors.items()}


def native_text_encoder(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """An original UMT5 state dict under transformers' names."""
    return {TEXT_NAMING.native(name): tensor for name, tensor in tensors.items()}


def native_image_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The picture half of an original CLIP state dict under transformers' names.

    Its queries, keys and values lie in one matrix, its single embeddings have leading axes of one, and its head is not
    used.
    """
    native = {}
    for name, tensor in tensors.items():
        if not name.startswith("visual.") or name == "visual.head":
            continue
        parts = (
            zip("qkv", tensor.tensor_split(3), strict=True)
            if ".to_qkv." in name
            else [("qkv", tensor)]
        )
        for part, rows in parts:
            ours = IMAGE_NAMING.native(name.replace(".to_qkv.", f".{part}."))
            native[ours] = (
                rows.squeeze() if name in ("visual.cls_embedding", "visual.pos_embedding") else rows
            )
    return native


def bare_image_encoder(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """A CLIP state dict of transformers, as Diffusers' Wan has it, under the names of the bare picture model."""
    bare = {name.removeprefix("vision_model."): tensor for name, tensor in tensors.items()}
    unused = ("visual_projection.", "embeddings.position_ids")
    return {name: tensor for name, tensor in bare.items() if not name.startswith(unused)}


def native_audio_encoder(tensors: Mapping[str, Anything]) -> dict[str, Anything]:
    """A wav2vec2 state dict, with or without the heads of its training, under the names of the bare model.

    Older files keep the two factors of the normalised positional convolution as `weight_g` and `weight_v`.
    """
    bare = {name.removeprefix("wav2vec2."): tensor for name, tensor in tensors.items()}
    return {
        AUDIO_NAMING.native(name): tensor
        for name, tensor in bare.items()
        if not name.startswith(AUDIO_TRAINING)
    }
