"""What weights are, by the names and shapes of their tensors: never by the name of a file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from farm.model.weights.containers import open_weights
from farm.model.weights.naming import Naming, naming
from farm.model.weights.rounding import roundings
from farm.model.weights.tensorfile import TensorFile, TensorInfo

Shapes = Mapping[str, torch.Size]

AUDIO_LAYERS = "infinitetalk"
"""The role of the layers that hear. They are published in a file of their own, or within the
transformer, whose role the other layers are.
"""

PATCHES = "patch_embedding.weight"
"""The first tensor of a transformer; a file of audio layers that has it is a whole one."""

RELATIVES = {
    "vace_": "Wan VACE",
    "image_embedder.pos_embed": "Wan 2.1 FLF2V",
    "img_emb.emb_pos": "Wan 2.1 FLF2V",
    "pose_patch_embedding.": "Wan 2.2 Animate",
    "audio_injector.": "Wan 2.2 S2V",
    "audio_proj_glob": "HuMo",
    "control_adapter.": "Wan Fun Camera",
    "ref_conv.": "Wan Fun Control",
    "audio_modulation": "LongCat Avatar",
    "proj_model.": "FantasyTalking",
}
"""Transformers with Wan's names and more, by a piece of a name that only they have."""

FAMILIES = {
    (36, True): "Wan 2.1 I2V (480P or 720P)",
    (36, False): "Wan 2.2 I2V",
    (16, False): "Wan 2.1 or 2.2 T2V",
    (48, False): "Wan 2.2 TI2V",
}
"""By the channels of the input, and whether it attends to an image."""

WIDTHS = {5120: "14B", 3072: "5B", 1536: "1.3B"}

TEXT_ENCODERS = {(256_384, 4096): "UMT5-XXL", (32_128, 4096): "T5-XXL"}
IMAGE_ENCODERS = {
    (1280, 14): "CLIP ViT-H/14",
    (1024, 14): "CLIP ViT-L/14",
    (1152, 14): "SigLIP SO400M",
    (1664, 14): "CLIP ViT-bigG/14",
}
AUTOENCODERS = {(96, 16): "the Wan 2.1 VAE", (160, 48): "the Wan 2.2 VAE"}
AUDIO_ENCODERS = {768: "wav2vec2 base", 1024: "wav2vec2 large"}

STRANGERS = (
    (r".*[._]lora_(A|B|down|up)\b.*|lora_unet_.*", "a LoRA, which belongs into FARM_LORAS"),
    (r"vace_.*", "Wan VACE without the transformer it extends"),
    (r"(proj_model|face_adapter|motion_encoder)\..*", "an extension of Wan for another purpose"),
    (r"decoder\.(up\.\d+|up_blocks\.\d+)\..*norm1\.weight", "an autoencoder for images"),
    (r"(first_stage_model|cond_stage_model|conditioner)\..*", "a Stable Diffusion checkpoint"),
    (r"(double_blocks|single_blocks)\..*", "a transformer of Flux or HunyuanVideo"),
    (r"(joint|transformer)_blocks\..*", "a transformer of another family than Wan"),
    (r"(text_model|cond_stage)\..*", "the text half of CLIP"),
    (r"(encoder|model\.encoder)\.layers\.\d+\.fc1\..*", "Whisper"),
    (r"(blk|model\.layers)\.\d+\..*", "a language model"),
)
"""What else lies in people's folders, by an expression for some of its names."""

MAX_NAMED = 3


@dataclass(frozen=True)
class Identity:
    """What weights are."""

    storage: str
    """The container and the roundings in it."""
    models: Mapping[str, str]
    """The model by its role in the farm; none if it has no role.

    The roles are the parts of a preset, and `infinitetalk` for layers that hear.
    """
    stranger: str = ""
    """What it is otherwise."""
    naming: Naming | None = None

    def __str__(self) -> str:
        if self.naming is None:
            return f"{self.stranger} ({self.storage})"
        found = " with ".join(self.models.values())
        return f"{found} ({self.storage}, {self.naming.title} names)"


def open_set(paths: Sequence[Path]) -> tuple[TensorFile, ...]:
    """The files of weights that belong together; PipelineLoadFailed names what cannot be read."""
    return tuple(open_weights(path) for path in paths)


def identify(files: Sequence[TensorFile]) -> Identity:
    """What the tensors of some files are together."""
    info = {name: each for file in files for name, each in file.info.items()}
    storage = f"{files[0].container} of {roundings(info.values()) or 'no tensors'}"
    found = naming(info)
    if found is None:
        return Identity(storage, {}, _stranger(info))
    try:
        metas = found.to_diffusers({name: each.meta_tensor() for name, each in info.items()})
    except RuntimeError as error:  # of shapes that no such model has
        return Identity(storage, {}, f"nothing that the farm loads: {error}")
    shapes = {name: tensor.shape for name, tensor in metas.items()}
    return Identity(storage, models(found.part, shapes, raw_names=info), naming=found)


def models(part: str, shapes: Shapes, *, raw_names: Collection[str] = ()) -> dict[str, str]:
    """The models by role in the tensors of a part, given by their diffusers names and shapes.

    `raw_names` are those in the file, of which some leave no tensor.
    """
    if part == "transformer":
        return _transformers(shapes)
    if part == "audio_encoder":
        return {part: _audio_encoder(shapes, raw_names)}
    describe = {
        "text_encoder": _text_encoder,
        "image_encoder": _image_encoder,
        "vae": _autoencoder,
    }
    return {part: describe[part](shapes)}


def _transformers(shapes: Shapes) -> dict[str, str]:
    found = {}
    heard = [name for name in shapes if name.endswith(".attn_audio.to_q.weight")]
    if PATCHES in shapes or not heard:
        found["transformer"] = _wan(shapes)
    if heard:
        width = _size(_length(shapes, heard[0], 0))
        found[AUDIO_LAYERS] = f"the audio layers of InfiniteTalk or MultiTalk {width}"
    return found


def _wan(shapes: Shapes) -> str:
    for piece, title in RELATIVES.items():
        if any(piece in name for name in shapes):
            return title
    if PATCHES not in shapes:
        return "a piece of Wan: patch_embedding and more are in other files"
    width, channels = (_length(shapes, PATCHES, axis) for axis in (0, 1))
    image = any(name.startswith("condition_embedder.image_embedder.") for name in shapes)
    family = FAMILIES.get((channels, image), f"a Wan transformer of {channels} input channels")
    return f"{family} {_size(width)}"


def _size(width: int) -> str:
    return WIDTHS.get(width, f"of width {width}")


def _text_encoder(shapes: Shapes) -> str:
    tokens, width = (_length(shapes, "shared.weight", axis) for axis in (0, 1))
    return TEXT_ENCODERS.get((tokens, width), f"T5 of {tokens} tokens and width {width}")


def _image_encoder(shapes: Shapes) -> str:
    name = "embeddings.patch_embedding.weight"
    width, patch = (_length(shapes, name, axis) for axis in (0, -1))
    return IMAGE_ENCODERS.get((width, patch), f"CLIP of width {width} and patches of {patch}")


def _autoencoder(shapes: Shapes) -> str:
    width = _length(shapes, "encoder.conv_in.weight", 0)
    latents = _length(shapes, "post_quant_conv.weight", 0)
    return AUTOENCODERS.get((width, latents), f"a Wan VAE of width {width}, {latents} latents")


def _audio_encoder(shapes: Shapes, raw_names: Collection[str]) -> str:
    width = _length(shapes, "feature_projection.projection.weight", 0)
    found = AUDIO_ENCODERS.get(width, f"wav2vec2 of width {width}")
    recogniser = any(name.startswith("lm_head.") for name in raw_names)
    return f"{found} fine-tuned to recognise words, as base-960h is" if recogniser else found


def _length(shapes: Shapes, name: str, axis: int) -> int:
    """The length of an axis of a tensor; 0 if there is none."""
    shape = shapes.get(name, torch.Size())
    return shape[axis] if -len(shape) <= axis < len(shape) else 0


def _stranger(info: Mapping[str, TensorInfo]) -> str:
    for expression, title in STRANGERS:
        marker = re.compile(expression)
        if any(marker.fullmatch(name) for name in info):
            return title
    named = ", ".join(sorted(info)[:MAX_NAMED])
    return f"nothing that the farm loads; it begins with {named}" if named else "no tensors"
