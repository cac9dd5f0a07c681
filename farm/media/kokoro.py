"""Text to speech with Kokoro, a model of 82 million parameters that the operator may install.

Its folder holds `config.json`, `kokoro-v1_0.pth` and `voices/NAME.pt`, as published; its code is
the extra `kokoro`. espeak-ng converts text to phonemes, because Kokoro's own way needs a language
model that it downloads on first use.
"""

from __future__ import annotations

import re
import warnings
from functools import cache, lru_cache
from importlib.util import find_spec
from math import inf
from pathlib import Path
from pickle import UnpicklingError
from textwrap import wrap
from types import SimpleNamespace
from typing import Any

import numpy as np

from farm.errors import PipelineLoadFailed
from farm.media.audio import Samples

RATE = 24_000
REPOSITORY = "hexgrad/Kokoro-82M"
WEIGHTS = "kokoro-v1_0.pth"
"""Where the weights are published, and their file name there."""

LANGUAGES = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "p": "pt-br",
}
"""Languages by a voice's first letter. Japanese and Chinese need more than espeak-ng has."""

MAX_PHONEMES = 510
"""Phonemes that the model takes at once: its positions, less one each for beginning and end."""


def voices(folder: Path) -> list[str]:
    """The available voices, such as `af_heart`, sorted; none without the weights or the extra."""
    if find_spec("kokoro") is None or not (folder / "config.json").is_file():
        return []
    files = (folder / "voices").glob("*.pt")
    return sorted(file.stem for file in files if file.stem[0] in LANGUAGES)


def synthesise(text: str, voice: str, folder: Path, *, max_seconds: float = inf) -> Samples:
    """`text` spoken by one of the `voices`, float32 [n] in [-1, 1] at RATE; deterministic.

    It stops soon after `max_seconds` of speech. Raises PipelineLoadFailed with the file's name if a
    file of the folder is missing or broken.
    """
    import torch

    model = _model(folder)
    style = _tensors(folder / "voices" / f"{voice}.pt")
    spoken = [np.zeros(0, np.float32)]
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # its oscillators start at random phases
        for phrase in phrases(text, LANGUAGES[voice[0]]):
            if sum(map(len, spoken)) > max_seconds * RATE:
                break
            # A voice has a style vector for each number of phonemes.
            spoken.append(model(phrase, style[len(phrase) - 1]).numpy())
    return np.clip(np.concatenate(spoken), -1, 1)


def phrases(text: str, language: str) -> list[str]:
    """A text's phonemes in Kokoro's alphabet, in as few phrases as fit into the model.

    Phrases are cut where sentences end.
    """
    phonemise = _phonemiser(language)
    found = [""]
    for sentence in re.split(r"(?<=[.!?…。])\s+|\n+", text):
        for piece in wrap(phonemise(sentence), MAX_PHONEMES):
            joined = f"{found[-1]} {piece}".strip()
            if len(joined) <= MAX_PHONEMES:
                found[-1] = joined
            else:
                found.append(piece)
    return [phrase for phrase in found if re.search(r"\w", phrase)]


@cache
def _phonemiser(language: str) -> Any:
    """A function from text to phonemes."""
    from misaki.espeak import EspeakFallback, EspeakG2P

    if language not in ("en-us", "en-gb"):
        other = EspeakG2P(language)
        return lambda text: other(text)[0]
    english = EspeakFallback(british=language == "en-gb")
    return lambda text: english(SimpleNamespace(text=text))[0] or ""


@lru_cache(maxsize=1)
def _model(folder: Path) -> Any:
    """The model with every weight loaded; its own loader ignores those that do not fit."""
    from kokoro.model import KModel

    config = folder / "config.json"
    weights = folder / WEIGHTS
    stored = _tensors(weights)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning
        )
        warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
        try:
            model = KModel(REPOSITORY, config=str(config), model=str(weights)).eval()
        except (OSError, KeyError, TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise PipelineLoadFailed(f"{folder}: Kokoro cannot be loaded ({error})") from error
    _check_complete(model, stored, weights)
    return model


def _check_complete(model: Any, stored: Any, weights: Path) -> None:
    """Raises PipelineLoadFailed if a parameter of the model is not in the file."""
    for part, module in model.named_children():
        names = {name.removeprefix("module.") for name in stored.get(part, {})}
        missing = sorted(dict(module.named_parameters()).keys() - names)
        if missing:
            raise PipelineLoadFailed(
                f"{weights}: {len(missing)} tensors are missing, the first is {part}.{missing[0]}"
            )


def _tensors(path: Path) -> Any:
    """The content of a published `.pth` or `.pt` file, tensors by name or one; runs no code."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise PipelineLoadFailed(f"{path}: it cannot be read ({error})") from error
