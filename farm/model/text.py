"""The prompt: cleaned, tokenised and encoded by UMT5."""

from __future__ import annotations

from html import unescape
from typing import Any

import ftfy
import torch
from torch import Tensor

DEFAULT_NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, "
    "images, static, overall gray, worst quality, low quality, JPEG compression residue, ugly, "
    "incomplete, extra fingers, poorly drawn hands, poorly drawn faces, deformed, disfigured, "
    "misshapen limbs, fused fingers, still picture, messy background, three legs, many people in "
    "the background, walking backwards"
)
"""The negative prompt of Wan's authors, word for word: the model was tuned with it."""


def clean_prompt(prompt: str) -> str:
    """A prompt with Unicode repaired, HTML entities resolved and white space collapsed.

    Entities may be escaped twice, as in the original.
    """
    text = unescape(unescape(ftfy.fix_text(prompt)))
    return " ".join(text.split())


class TextEncoder:
    """UMT5's features of a prompt, without padding: the transformer adds that itself.

    A prompt is encoded once per job, so the encoder's 11 GB are on the device only during the call:
    a job at 720 would not fit beside them.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_tokens: int,
        device: str = "cpu",
    ) -> None:
        self.model = model.eval()
        self.device = device
        self._on_host = [(parameter, parameter.data) for parameter in model.parameters()]
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @torch.inference_mode()
    def __call__(self, prompt: str) -> Tensor:
        """[tokens, text_dim] float32, at most `max_tokens` of them.

        The rest of a longer prompt is dropped.
        """
        tokens = self.tokenizer(
            clean_prompt(prompt),
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        try:
            self.model.to(self.device)
            output = self.model(tokens.input_ids.to(self.device))
            return output.last_hidden_state[0].float()
        finally:
            # The weights did not change, so those on the host are put back instead of copied.
            for parameter, data in self._on_host:
                parameter.data = data
