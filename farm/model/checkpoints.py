"""Weights on disk: one folder for a preset, in diffusers' layout, read strictly.

miniature/
├── transformer/      config.json, diffusion_pytorch_model.safetensors
├── vae/              the same
├── text_encoder/     config.json, model.safetensors
├── image_encoder/    the same
├── audio_encoder/    the same
├── tokenizer/        tokenizer.json, tokenizer_config.json
└── sources.json      what it was converted from; drawn weights have none

A large part lies in shards of a few gigabytes, with an index beside them.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.parts import built, library, model_class
from farm.model.presets import Preset
from farm.model.weights.check import check_part
from farm.model.weights.folder import appearing


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
                f"{folder / part} is missing: the model {preset.name!r} has no {part}; "
                "run `farm weights pull`, then `farm weights convert`"
            )
    return folder


def load_part(folder: Path, part: str, *, dtype: str) -> Any:
    """One model of a folder, for inference, on the CPU; modules that must stay in float32 do.

    Raises PipelineLoadFailed, before anything is read but the files' headers, that names what is missing, unexpected,
    of another shape or cut short.
    """
    check_part(folder, part)
    _quiet(part)
    try:
        model = model_class(part).from_pretrained(
            folder / part, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PipelineLoadFailed(f"{folder / part} cannot be loaded: {error}") from error
    return model.eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, whatever its kind."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError) as error:
        raise PipelineLoadFailed(f"{folder / 'tokenizer'} cannot be loaded: {error}") from error


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


def _quiet(part: str) -> None:
    """No progress bars: a worker's output is log lines, and loading is told as an event."""
    import_module(f"{library(part)}.utils.logging").disable_progress_bar()


def _draw(preset: Preset, folder: Path, seed: int) -> None:
    """Of two processes at once the first wins and both are right."""
    try:
        with appearing(folder) as temporary:
            for part, config in preset.parts.items():
                _quiet(part)
                model = built(part, config)
                weights = {name: drawn(name, each.shape, seed=seed) for name, each in model.named_parameters()}
                model.load_state_dict(weights, strict=False)
                model.save_pretrained(temporary / part)
            _byte_tokenizer().save_pretrained(temporary / "tokenizer")
    except OSError:
        if not folder.exists():
            raise


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
