"""The way from sentences to weights; each stage leaves a folder that the next ones load."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Wav2Vec2FeatureExtractor

from farm.model.audio import AudioEncoder
from farm.model.checkpoints import load_part, load_tokenizer
from farm.model.image import ImageEncoder
from farm.model.text import DEFAULT_NEGATIVE_PROMPT, TextEncoder
from farm.model.vae import VideoAutoencoder
from farm.model.weights.folder import atomic_folder
from farm.presets import MINIATURE
from miniature import audio_encoder, autoencoder, transformer
from miniature.lessons import BatchBuilder
from miniature.studio import Studio
from miniature.training import Run
from miniature.voices import Voices, corpus

PROMPTS = (
    "",
    DEFAULT_NEGATIVE_PROMPT,
    "a person talks",
    "a woman talks to the camera",
    "a man is speaking",
    "a friendly person looks into the camera and talks",
    "two people talk to each other",
    "someone tells a story, studio light, high quality",
)
"""So small a model does not follow a prompt; it only gets used to having one."""

SHARD = "15MB"
UNTRAINED_PARTS = ("text_encoder", "image_encoder", "tokenizer")
PARTS = ("text_encoder", "image_encoder", "audio_encoder", "vae")
TEXT_LEN = MINIATURE.parts["transformer"]["text_len"]


def make(run: Run, scale: float = 1.0) -> Path:
    """Trains every part that is missing and returns the finished checkpoint folder."""
    weights = run.home / "weights"
    voices = Voices(_ensure_voices(run), run.device)
    studio = Studio(voices)
    _copy_untrained_parts(weights)
    _train_part(
        run,
        "audio_encoder",
        lambda: audio_encoder.train(run, voices, scale * audio_encoder.TRAINING_S),
    )
    _train_part(
        run,
        "vae",
        lambda: autoencoder.train(run, studio, scale * autoencoder.TRAINING_S),
    )
    _train_part(run, "transformer", lambda: _train_transformer(run, studio, scale))
    return weights


def _ensure_voices(run: Run) -> Path:
    """The file of the spoken corpus, made unless it exists."""
    path = run.home / "voices.safetensors"
    if not path.exists():
        from safetensors.numpy import save_file

        temporary = path.with_suffix(".tmp")
        save_file(corpus(), temporary)
        temporary.replace(path)
    return path


def _copy_untrained_parts(weights: Path) -> None:
    """Copies the shipped text and image encoders and the tokenizer.

    They were initialised at random once and are never trained.
    """
    for part in UNTRAINED_PARTS:
        shutil.copytree(MINIATURE.folder(weights) / part, weights / part, dirs_exist_ok=True)


def _train_part(run: Run, part: str, train: Callable[[], Any]) -> None:
    """Trains a part unless its folder exists, and stores it in 16 bits."""
    folder = run.home / "weights" / part
    if not folder.exists():
        model = train().half()
        with atomic_folder(folder) as temporary:
            model.save_pretrained(temporary, max_shard_size=SHARD)
            if part == "audio_encoder":
                Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(temporary)
        run.log(stage=part, stored=str(folder))


def _train_transformer(run: Run, studio: Studio, scale: float) -> nn.Module:
    weights = run.home / "weights"
    device = run.device
    parts = {part: load_part(weights, part, dtype="float32").to(device) for part in PARTS}
    encode_text = TextEncoder(
        parts["text_encoder"],
        load_tokenizer(weights),
        max_tokens=TEXT_LEN,
        device=str(device),
    )
    builder = BatchBuilder(
        studio,
        AudioEncoder(parts["audio_encoder"], do_normalize=True).model,
        ImageEncoder(parts["image_encoder"]),
        VideoAutoencoder(parts["vae"], latents_per_call=20),
    )
    features = [_pad_text(encode_text(prompt)) for prompt in PROMPTS]
    prompts = torch.stack(features).to(device)
    return transformer.train(run, builder, prompts, scale * transformer.TRAINING_S, scale)


def _pad_text(text: Tensor) -> Tensor:
    return F.pad(text, (0, 0, 0, TEXT_LEN - len(text)))
