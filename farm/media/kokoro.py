"""Speech from text by Kokoro, a voice model of 82 million parameters that the operator may put beside the others.

Its folder holds `config.json`, `kokoro-v1_0.pth` and `voices/NAME.pt`, as they are published; its code is the extra
`kokoro`. espeak-ng turns the words into sounds, because Kokoro's own way needs a language model fetched on first use.
"""

from __future__ import annotations

import re
import warnings
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from textwrap import wrap
from types import SimpleNamespace
from typing import Any

import numpy as np

from farm.errors import PipelineLoadFailed
from farm.media.audio import Samples

RATE = 24_000
REPOSITORY, WEIGHTS = "hexgrad/Kokoro-82M", "kokoro-v1_0.pth"
"""Where the weights are published, and the name of their file there."""

LANGUAGES = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}
"""What a voice's first letter says it speaks. Japanese and Chinese voices need more than espeak-ng knows."""

LONGEST_PHRASE = 510
"""Sounds that the model takes at once: its positions less the two that mark beginning and end."""


def voices(folder: Path) -> list[str]:
    """The voices that can speak here, such as `af_heart`, sorted; none without the weights or the extra."""
    if find_spec("kokoro") is None or not (folder / "config.json").is_file():
        return []
    return sorted(file.stem for file in (folder / "voices").glob("*.pt") if file.stem[0] in LANGUAGES)


def synthesise(text: str, voice: str, folder: Path) -> Samples:
    """What one of the `voices` says, float32 [n] in [-1, 1] at RATE; the same words make the same samples.

    Raises PipelineLoadFailed if a file of the folder is missing or broken, with its name.
    """
    import torch

    model, style = _model(folder), _tensors(folder / "voices" / f"{voice}.pt")
    spoken = [np.zeros(0, np.float32)]
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # its oscillators start at random phases
        for phrase in phrases(text, LANGUAGES[voice[0]]):
            # A voice has a style for each length of a phrase.
            spoken.append(model(phrase, style[len(phrase) - 1]).numpy())
    return np.clip(np.concatenate(spoken), -1, 1)


def phrases(text: str, language: str) -> list[str]:
    """The sounds of a text in Kokoro's letters, as few pieces as fit into the model, cut where sentences end."""
    speak = _phonemiser(language)
    found = [""]
    for sentence in re.split(r"(?<=[.!?…。])\s+|\n+", text):
        for piece in wrap(speak(sentence), LONGEST_PHRASE):
            together = f"{found[-1]} {piece}".strip()
            found[-1:] = [together] if len(together) <= LONGEST_PHRASE else [found[-1], piece]
    return [phrase for phrase in found if re.search(r"\w", phrase)]


@cache
def _phonemiser(language: str) -> Any:
    from misaki.espeak import EspeakFallback, EspeakG2P

    if language not in ("en-us", "en-gb"):
        foreign = EspeakG2P(language)
        return lambda text: foreign(text)[0]
    english = EspeakFallback(british=language == "en-gb")
    return lambda text: english(SimpleNamespace(text=text))[0] or ""


@lru_cache(maxsize=1)
def _model(folder: Path) -> Any:
    """The model with every weight from its file; its own loader would pass over those that do not fit."""
    from kokoro.model import KModel

    weights = folder / WEIGHTS
    stored = _tensors(weights)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "dropout option adds dropout", UserWarning)
        try:
            model = KModel(REPOSITORY, config=str(folder / "config.json"), model=str(weights)).eval()
        except (OSError, KeyError, TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise PipelineLoadFailed(f"{folder}: Kokoro cannot be loaded ({error})") from error
    for part, module in model.named_children():
        names = {name.removeprefix("module.") for name in stored.get(part, {})}
        if missing := sorted(dict(module.named_parameters()).keys() - names):
            raise PipelineLoadFailed(f"{weights}: {part}.{missing[0]} and {len(missing) - 1} more tensors are missing")
    return model


def _tensors(path: Path) -> Any:
    """What a published `.pth` or `.pt` file holds: tensors by their names, or one tensor; no code is run."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise PipelineLoadFailed(f"{path}: it cannot be read ({error})") from error
