"""The original names of tensors, and their names in diffusers' layout, which are the model's.

Each table maps original module names to diffusers' names; `weight` and `bias` stay. Source of the
originals: MeiGen-AI/InfiniteTalk and Wan 2.1 (transformer, text and image encoder, autoencoder),
and transformers' wav2vec2. The encoders of diffusers' layout are transformers' models; llama.cpp
has names of its own for the text encoder. Every table is one to one, so it reads in both
directions. All functions work on any part of a state dict, down to a single tensor; a name that
they do not know stays, for `farm.model.weights.check` to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

Value = TypeVar("Value")
"""A tensor or whatever else belongs to a name."""

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

TEXT_LLAMA = {"token_embd": "shared", "enc.output_norm": "encoder.final_layer_norm"}

TEXT_LLAMA_BLOCK = {
    "attn_norm": "layer.0.layer_norm",
    **{f"attn_{part}": f"layer.0.SelfAttention.{part}" for part in "qkvo"},
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "ffn_norm": "layer.1.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
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

POSITIONAL_CONV = "encoder.pos_conv_embed.conv"

AUDIO = {
    f"{POSITIONAL_CONV}.weight_g": f"{POSITIONAL_CONV}.parametrizations.weight.original0",
    f"{POSITIONAL_CONV}.weight_v": f"{POSITIONAL_CONV}.parametrizations.weight.original1",
}

AUDIO_TRAINING = (
    "quantizer.",
    "project_hid.",
    "project_q.",
    "lm_head.",
    "masked_spec_embed",
)
"""Only used in training: the contrastive head, a recogniser's head, the vector of masked frames."""


class KeyMap:
    """The keys of one part, original and diffusers', in both directions.

    One table is for modules at the top, another for the modules of a numbered block.
    """

    def __init__(
        self,
        top: Mapping[str, str],
        block: Mapping[str, str] | None = None,
        *,
        original_blocks: str = "blocks",
        diffusers_blocks: str = "blocks",
    ) -> None:
        self._original_blocks = original_blocks
        self._diffusers_blocks = diffusers_blocks
        self._top = dict(top)
        self._block = dict(block or {})
        self._original_top = {diffusers: original for original, diffusers in self._top.items()}
        self._original_block = {diffusers: original for original, diffusers in self._block.items()}

    def to_diffusers(self, name: str) -> str:
        """The diffusers name of an original tensor."""
        numbered = _split_block(name, self._original_blocks)
        if numbered:
            number, rest = numbered
            return f"{self._diffusers_blocks}.{number}.{_look_up(rest, self._block)}"
        return _look_up(name, self._top)

    def to_original(self, name: str) -> str:
        """The original name of a diffusers tensor."""
        numbered = _split_block(name, self._diffusers_blocks)
        if numbered:
            number, rest = numbered
            return f"{self._original_blocks}.{number}.{_look_up(rest, self._original_block)}"
        return _look_up(name, self._original_top)


def _split_block(name: str, blocks: str) -> tuple[str, str] | None:
    """The number of a block and the name inside it; None for a name outside the blocks."""
    found = re.fullmatch(rf"{re.escape(blocks)}\.(\d+)\.(.+)", name)
    return (found[1], found[2]) if found else None


def _look_up(name: str, table: Mapping[str, str]) -> str:
    """The table's name for a tensor, or that of its module with the same `weight` or `bias`."""
    if name in table:
        return table[name]
    stem, dot, leaf = name.rpartition(".")
    return table.get(stem, stem) + dot + leaf


def autoencoder_keys(res_blocks: int) -> KeyMap:
    """The keys of a Wan 2.1 autoencoder of four stages with `res_blocks` residual blocks in each.

    The full-size one has 2. The original numbers residual blocks and resamplers of all stages in
    one sequence. Diffusers' encoder does so too; its decoder numbers them by stage, where each has
    one residual block more than the encoder's.
    """
    top = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
    for side in ("encoder", "decoder"):
        top |= _below(side, side, AUTOENCODER_SIDE)
        top |= _below(f"{side}.middle.0", f"{side}.mid_block.resnets.0")
        top |= _below(f"{side}.middle.1", f"{side}.mid_block.attentions.0")
        top |= _below(f"{side}.middle.2", f"{side}.mid_block.resnets.1")
    # Four stages with a resampler after each but the last.
    for number in range(4 * (res_blocks + 1) - 1):
        top |= _below(f"encoder.downsamples.{number}", f"encoder.down_blocks.{number}")
    for number in range(4 * (res_blocks + 2) - 1):
        stage, within = divmod(number, res_blocks + 2)
        module = f"resnets.{within}" if within <= res_blocks else "upsamplers.0"
        top |= _below(f"decoder.upsamples.{number}", f"decoder.up_blocks.{stage}.{module}")
    return KeyMap(top)


def _below(
    original: str, diffusers: str, modules: Mapping[str, str] = AUTOENCODER_BLOCK
) -> dict[str, str]:
    """The modules below one module, by their full names."""
    return {f"{original}.{left}": f"{diffusers}.{right}" for left, right in modules.items()}


TRANSFORMER_KEYS = KeyMap(TRANSFORMER, TRANSFORMER_BLOCK)
TEXT_KEYS = KeyMap(TEXT, TEXT_BLOCK, diffusers_blocks="encoder.block")
TEXT_LLAMA_KEYS = KeyMap(
    TEXT_LLAMA,
    TEXT_LLAMA_BLOCK,
    original_blocks="enc.blk",
    diffusers_blocks="encoder.block",
)
IMAGE_KEYS = KeyMap(
    IMAGE,
    IMAGE_BLOCK,
    original_blocks="visual.transformer",
    diffusers_blocks="encoder.layers",
)
AUDIO_KEYS = KeyMap(AUDIO)


def diffusers_transformer(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """An original InfiniteTalk state dict under diffusers' names."""
    return {TRANSFORMER_KEYS.to_diffusers(name): tensor for name, tensor in tensors.items()}


def original_transformer(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The reverse of `diffusers_transformer`."""
    return {TRANSFORMER_KEYS.to_original(name): tensor for name, tensor in tensors.items()}


def diffusers_autoencoder(tensors: Mapping[str, Value], *, res_blocks: int = 2) -> dict[str, Value]:
    """An original Wan 2.1 VAE state dict under diffusers' names."""
    keys = autoencoder_keys(res_blocks)
    return {keys.to_diffusers(name): tensor for name, tensor in tensors.items()}


def diffusers_text_encoder(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """An original UMT5 state dict under transformers' names."""
    return {TEXT_KEYS.to_diffusers(name): tensor for name, tensor in tensors.items()}


def bare_text_encoder(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """A UMT5 state dict of transformers without what only other programs need.

    That is the second name of the shared embedding, and the tokenizer in ComfyUI's files.
    """
    unused = ("encoder.embed_tokens.weight", "spiece_model")
    return {name: tensor for name, tensor in tensors.items() if name not in unused}


def llama_text_encoder(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """A UMT5 state dict of llama.cpp under transformers' names."""
    return {TEXT_LLAMA_KEYS.to_diffusers(name): tensor for name, tensor in tensors.items()}


def diffusers_image_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image half of an original CLIP state dict under transformers' names.

    Its queries, keys and values lie in one matrix, its single embeddings have leading axes of one,
    and its head is not used.
    """
    renamed = {}
    for name, tensor in tensors.items():
        if not name.startswith("visual.") or name == "visual.head":
            continue
        if ".to_qkv." in name:
            for part, rows in zip("qkv", tensor.tensor_split(3), strict=True):
                renamed[IMAGE_KEYS.to_diffusers(name.replace(".to_qkv.", f".{part}."))] = rows
        elif name in ("visual.cls_embedding", "visual.pos_embedding"):
            renamed[IMAGE_KEYS.to_diffusers(name)] = tensor.squeeze()
        else:
            renamed[IMAGE_KEYS.to_diffusers(name)] = tensor
    return renamed


def bare_image_encoder(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """A CLIP state dict of transformers, as in Diffusers' Wan, for the bare vision model."""
    bare = {name.removeprefix("vision_model."): tensor for name, tensor in tensors.items()}
    unused = ("visual_projection.", "embeddings.position_ids")
    return {name: tensor for name, tensor in bare.items() if not name.startswith(unused)}


def diffusers_audio_encoder(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """A wav2vec2 state dict, with or without training heads, under the names of the bare model.

    Older files keep the two factors of the normalised positional convolution as `weight_g` and
    `weight_v`.
    """
    bare = {name.removeprefix("wav2vec2."): tensor for name, tensor in tensors.items()}
    return {
        AUDIO_KEYS.to_diffusers(name): tensor
        for name, tensor in bare.items()
        if not name.startswith(AUDIO_TRAINING)
    }
