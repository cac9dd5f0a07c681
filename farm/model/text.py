"""The prompt: cleaned, cut into tokens, encoded by UMT5."""

from __future__ import annotations

from html import unescape
from typing import Any

import ftfy
import torch
from torch import Tensor

DEFAULT_NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)
"""What Wan's authors steer away from; part of how the model was tuned, so not ours to word better."""


def cleaned(prompt: str) -> str:
    """Broken Unicode mended, HTML entities resolved (also doubly escaped ones), runs of white space made one space."""
    return " ".join(unescape(unescape(ftfy.fix_text(prompt))).split())


class TextEncoder:
    """UMT5's features of a prompt, without padding: the transformer adds that itself."""

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @torch.inference_mode()
    def __call__(self, prompt: str) -> Tensor:
        """[tokens, text_dim] float32, at most `max_tokens` of them; the rest of a longer prompt is not read."""
        tokens = self.tokenizer(cleaned(prompt), truncation=True, max_length=self.max_tokens, return_tensors="pt")
        return self.model(tokens.input_ids.to(self.model.device)).last_hidden_state[0].float()
