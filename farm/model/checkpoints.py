"""Weights on disk: one folder for a preset, in diffusers' layout, read strictly.

miniature/
├── transformer/      config.json, diffusion_pytorch_model.safetensors
├── vae/              the same
├── text_encoder/     config.json, model.safetensors
├── image_encoder/    the same
├── audio_encoder/    the same
└── tokenizer/        tokenizer.json, tokenizer_config.json
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.presets import Preset

# Where each part's class and, for transformers' models, its configuration live: a worker that only embeds sound never
# imports the others.
PARTS = {
    "transformer": ("farm.model.transformer:InfiniteTalkTransformer", None),
    "vae": ("diffusers:AutoencoderKLWan", None),
    "text_encoder": ("transformers:UMT5EncoderModel", "transformers:UMT5Config"),
    "image_encoder": ("transformers:CLIPVisionModel", "transformers:CLIPVisionConfig"),
    "audio_encoder": ("transformers:Wav2Vec2Model", "transformers:Wav2Vec2Config"),
}


def ready(preset: Preset, root: Path) -> Path:
    """The preset's folder under `root`; weights that are drawn from a seed are drawn now if they are not there.

    Raises PipelineLoadFailed, naming path and part, when something that must be pulled is missing.
    """
    folder = root / preset.name
    if not folder.exists() and preset.seed is not None:
        _draw(preset, folder, preset.seed)
    for part in (*preset.parts, "tokenizer"):
        if not (folder / part).is_dir():
            raise PipelineLoadFailed(
                f"{folder / part} is missing: the model {preset.name!r} has no {part}; run `farm weights pull`"
            )
    return folder


def load_part(folder: Path, part: str, *, dtype: str) -> Any:
    """One model of a folder, for inference, on the CPU; modules that must stay in float32 do.

    Raises PipelineLoadFailed that names the first tensor which is missing, unexpected or of another shape.
    """
    _quiet()
    try:
        model, report = _named(PARTS[part][0]).from_pretrained(
            folder / part,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the report names them; refused below
            local_files_only=True,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PipelineLoadFailed(f"{folder / part} cannot be loaded: {error}") from error
    for wrong in ("missing", "unexpected", "mismatched"):
        if names := sorted(map(str, report[f"{wrong}_keys"])):
            raise PipelineLoadFailed(f"{folder / part}: {len(names)} {wrong} tensors, the first is {names[0]}")
    return model.eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, whatever its kind."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError) as error:
        raise PipelineLoadFailed(f"{folder / 'tokenizer'} cannot be loaded: {error}") from error


def built(part: str, config: Mapping[str, Any]) -> Any:
    """A part by its configuration, its weights not yet those of any checkpoint."""
    model, configuration = PARTS[part]
    if configuration is None:
        return _named(model)(**config)
    return _named(model)(_named(configuration)(**config))


def drawn(name: str, shape: torch.Size, *, seed: int = 0) -> Tensor:
    """A parameter that depends on its name, shape and the seed alone, of a scale that keeps a network's signal alive.

    Norm scales are about 1, biases near 0, everything else has a variance of 1 / fan-in.
    """
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed))
    if name.endswith((".gamma", "_g")) or (len(shape) == 1 and name.endswith(".weight")):
        return 1 + 0.1 * noise
    if name.endswith(("modulation", "scale_shift_table")):
        return noise * shape[-1] ** -0.5
    return noise * (0.02 if len(shape) == 1 else (noise.numel() / shape[0]) ** -0.5)


def _quiet() -> None:
    """No progress bars: a worker's output is log lines, and loading is told as an event."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)


def _draw(preset: Preset, folder: Path, seed: int) -> None:
    """Under a temporary name, then one rename; of two processes at once the first wins and both are right."""
    _quiet()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{preset.name}-", dir=folder.parent))
    temporary.chmod(0o755)  # mkdtemp's is for its owner alone, and workers may be others
    try:
        for part, config in preset.parts.items():
            model = built(part, config)
            weights = {name: drawn(name, each.shape, seed=seed) for name, each in model.named_parameters()}
            model.load_state_dict(weights, strict=False)
            model.save_pretrained(temporary / part)
        _byte_tokenizer().save_pretrained(temporary / "tokenizer")
        os.replace(temporary, folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _byte_tokenizer() -> Any:
    """One token a byte and an end mark: needs no training and no download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    letters = [*marks.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)
