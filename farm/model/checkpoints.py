"""Weights on disk: one folder for a preset, in diffusers' layout, read strictly.

miniature/
├── transformer/      config.json, diffusion_pytorch_model.safetensors
├── vae/              the same
├── text_encoder/     config.json, model.safetensors
├── image_encoder/    the same
├── audio_encoder/    the same, preprocessor_config.json
├── tokenizer/        tokenizer.json, tokenizer_config.json
└── sources.json      what it was converted from; shipped weights have none

A large part lies in shards of a few gigabytes, with an index beside them.
"""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from farm.errors import PipelineLoadFailed
from farm.model.parts import PREPROCESSOR_CONFIG, library, model_class
from farm.model.weights.check import check_part
from farm.plan import SPEECH_RATE
from farm.presets import Preset

_ONE_AT_A_TIME = threading.Lock()
"""Held while a part is loaded: both libraries change for all threads where modules are made."""


def checkpoint_folder(preset: Preset, root: Path) -> Path:
    """The preset's folder, complete: in the package if its weights are shipped, else under `root`.

    Raises PipelineLoadFailed, naming path and part, when something is missing.
    """
    folder = preset.folder(root)
    for part in preset.missing_parts(folder):
        missing = f"{folder / part} is missing: the model {preset.name!r} has no {part}"
        raise PipelineLoadFailed(f"{missing}; {preset.remedy}")
    return folder


def load_part(folder: Path, part: str, *, dtype: str) -> Any:
    """One model of a folder, for inference, on the CPU; modules that must stay in float32 do.

    Raises PipelineLoadFailed, before anything is read but the files' headers, that names what is
    missing, unexpected, of another shape or cut short.
    """
    check_part(folder, part)
    _disable_progress_bar(part)
    try:
        with _ONE_AT_A_TIME:
            model = model_class(part).from_pretrained(
                folder / part,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                use_safetensors=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PipelineLoadFailed(f"{folder / part} cannot be loaded: {error}") from error
    return model.eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that the folder's tokenizer.json describes.

    AutoTokenizer would build the class that tokenizer_config.json names, and keep the vocabulary
    only: transformers 5 then gives UMT5's unknown characters the id of `<s>`.
    """
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer"
    try:
        return PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PipelineLoadFailed(f"{path} cannot be loaded: {error}") from error


def load_do_normalize(folder: Path) -> bool:
    """Whether the folder's audio encoder was trained on recordings of zero mean and unit variance.

    Raises PipelineLoadFailed if its preprocessor_config.json is missing or asks for another rate.
    """
    from transformers import Wav2Vec2FeatureExtractor

    path = folder / "audio_encoder"
    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PipelineLoadFailed(f"{path} cannot be loaded: {error}") from error
    if extractor.sampling_rate != SPEECH_RATE:
        raise PipelineLoadFailed(
            f"{path / PREPROCESSOR_CONFIG}: got sampling_rate {extractor.sampling_rate}; "
            f"allowed: {SPEECH_RATE}"
        )
    return bool(extractor.do_normalize)


def _disable_progress_bar(part: str) -> None:
    """A worker's output is log lines, and loading is reported as an event."""
    import_module(f"{library(part)}.utils.logging").disable_progress_bar()
