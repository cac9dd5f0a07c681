"""A tiny preset of the model, with weights that depend only on their names.

It has every part and is the same on every machine, but its videos are noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Wav2Vec2FeatureExtractor

from farm.model.parts import build
from farm.presets import INFINITETALK, MINIATURE, PRESETS, Preset
from tests.reference.drawing import filled

TINY_PRESET = Preset(
    name="tiny",
    good_for="tests",
    sizes={"infinitetalk-480": {1.0: (32, 32)}},
    shifts={"infinitetalk-480": 7.0},
    teacache={"infinitetalk-480": (0.1, 0.0)},  # so that a threshold of 1 skips a step
    defaults=INFINITETALK.defaults,
    qualities=MINIATURE.qualities,
    costs=MINIATURE.costs,
    sampler="euler",
    dtypes={},
    latents_per_call=10,
    parts={
        **MINIATURE.parts,
        "transformer": {
            "num_attention_heads": 4,
            "attention_head_dim": 32,
            "num_layers": 2,
            "ffn_dim": 256,
            "freq_dim": 64,
            "text_dim": 64,
            "text_len": 512,
            "image_dim": 64,
            "audio_layers": 3,
            "audio_dim": 64,
            "audio_hidden_dim": 64,
            "audio_tokens": 8,
            "audio_token_dim": 64,
        },
        "vae": {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1},
    },
)


def save_tiny_checkpoint(folder: Path) -> Path:
    """Writes a checkpoint of the tiny preset into a folder, and returns the folder."""
    for part, config in TINY_PRESET.parts.items():
        filled(build(part, config)).save_pretrained(folder / part)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "audio_encoder")
    byte_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


@contextmanager
def use_tiny_preset(root: Path) -> Iterator[dict[str, Any]]:
    """Settings with which this process makes videos with a tiny model, until the block ends.

    Its checkpoint is written under `root`.
    """
    with patch.dict(PRESETS, {TINY_PRESET.name: TINY_PRESET}):
        save_tiny_checkpoint(root / TINY_PRESET.name)
        yield {"presets": (TINY_PRESET.name,), "weights": root}


def byte_tokenizer() -> Any:
    """One token a byte and an end mark: needs no training and no download."""
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    letters = [*marks.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)
