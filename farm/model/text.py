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
    """UMT5's features of a prompt, without padding: the transformer adds that itself.

    A prompt is read once a job, so the encoder's 11 GB are on the device only meanwhile: 720 would not fit beside them.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int, device: str = "cpu") -> None:
        self.model = model.eval()
        self.device = device
        self._on_host = [(parameter, parameter.data) for parameter in model.parameters()]
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @torch.inference_mode()
    def __call__(self, prompt: str) -> Tensor:
        """[tokens, text_dim] float32, at most `max_tokens` of them; the rest of a longer prompt is not read."""
        tokens = self.tokenizer(
            cleaned(prompt),
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        try:
            return (
                self.model.to(self.device)(tokens.input_ids.to(self.device))
                .last_hidden_state[0]
                .float()
            )
        finally:
            for (
                parameter,
                data,
            ) in self._on_host:  # nothing has changed, so nothing is copied back
                parameter.data = data
