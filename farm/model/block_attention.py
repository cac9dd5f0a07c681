"""The attentions of a block: of the video to itself, to text and image, and to the audio.

Shapes: B batch, T latent frames, L tokens, C width, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, cast

import torch
from diffusers.models.attention import AttentionModuleMixin
from torch import Tensor, nn

from farm.model.attention import attend
from farm.model.attention_kernels import CUDNN_FP8, attend_fp8
from farm.model.folding import attend_folded, fold
from farm.model.fused import Tokens, norm_rope, takes_kernels
from farm.model.quantise import rounding_of
from farm.model.speakers import speaker_angles, voice_positions
from farm.model.tokens import WHOLE, Share


class Context(NamedTuple):
    """What the video attends to besides itself and the audio."""

    text: Tensor
    """[B, tokens, C]; all of the padding is one token, the last."""
    text_repeats: int
    """How many tokens the last one stands for."""
    image: Tensor
    """[B, 257, C]: CLIP's class token and 16 x 16 patches."""


KeysValues = tuple[Tensor, Tensor]
"""[B, tokens, heads, D] each."""

Kept = dict[nn.Module, tuple[Any, ...]]
"""What the passes of a chunk share, by the module that made it; for one branch of the guidance."""


def once(kept: Kept | None, owner: nn.Module, make: Callable[[], tuple[Any, ...]]) -> Any:
    """What `owner` made in the first pass, or made anew if nothing is kept."""
    if kept is None:
        return make()
    if owner not in kept:
        kept[owner] = make()
    return kept[owner]


class VideoAttnProcessor:
    """Self-attention that also returns its queries and keys, for `farm.model.speakers`."""

    # The name that diffusers sets and reads.
    _attention_backend = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tokens,
        _text: None,
        _mask: None,
        rotary_emb: tuple[Tensor, Tensor],
        share: Share = WHOLE,
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, key = (
            norm_rope(project(hidden_states), *rotary_emb, weight=norm.weight, eps=norm.eps)
            for project, norm in ((attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k))
        )
        query, key, value = (
            share.to_heads(_split_heads(tokens, attn.heads))
            for tokens in (query, key, attn.to_v(hidden_states))
        )
        output: Tokens
        if self._attention_backend == CUDNN_FP8 and share is WHOLE:
            output = attend_fp8(query, key, value, rounding_of(attn.to_out[0]))
        else:
            output = share.to_tokens(attend(query, key, value, self._attention_backend)).flatten(2)
        return attn.to_out[0](output), query, key


class ContextAttnProcessor:
    """Attention to the image and to the text with the same queries; the two outputs are added."""

    _attention_backend = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tokens,
        encoder_hidden_states: Context,
        _mask: None,
        _rotary_emb: None,
        kept: Kept | None = None,
    ) -> Tensor:
        query = _split_heads(attn.norm_q(attn.to_q(hidden_states)), attn.heads)
        text, image = once(kept, attn, lambda: self._keys_values(attn, encoder_hidden_states))
        repeats = encoder_hidden_states.text_repeats
        output = attend_context(query, text, repeats, image, self._attention_backend)
        return attn.to_out[0](output.flatten(2))

    def _keys_values(self, attn: Any, context: Context) -> tuple[KeysValues, KeysValues]:
        """Of the text and of the image."""
        text, image = context.text, context.image
        pairs = (
            (attn.norm_k(attn.to_k(text)), attn.to_v(text)),
            (attn.norm_added_k(attn.add_k_proj(image)), attn.add_v_proj(image)),
        )
        of_text, of_image = (
            (_split_heads(key, attn.heads), _split_heads(value, attn.heads)) for key, value in pairs
        )
        return of_text, of_image


def attend_context(
    query: Tensor, text: KeysValues, text_repeats: int, image: KeysValues, kernel: str | None
) -> Tensor:
    """The sum [B, L, heads, D] of the attentions to text and image.

    The last token of the text stands for `text_repeats`. A GPU with kernels of ours ignores
    `kernel`.
    """
    if takes_kernels(query):
        from farm.model import context_kernel

        return context_kernel.attend_context(query, text, text_repeats, image)
    key, value = (
        torch.cat([each, each[:, -1:].expand(-1, text_repeats - 1, -1, -1)], dim=1) for each in text
    )
    return attend(query, key, value, kernel) + attend(query, *image, kernel)


class AudioAttnProcessor:
    """Attention inside each latent frame, from its pixels to its audio tokens.

    With two speakers, pixels and voices have positions on a line (`farm.model.speakers`). For one
    speaker the projections may be folded into keys and values (`farm.model.folding`).
    """

    is_folded = False

    _attention_backend = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tokens,
        audio: Tensor,
        speaker_positions: Tensor | None,
        kept: Kept | None = None,
        share: Share = WHOLE,
    ) -> Tensor:
        audio = audio[:, share.frames]
        batch, frames = audio.shape[:2]
        if self.is_folded and speaker_positions is None:
            folded = once(kept, attn, lambda: fold(attn, audio))
            tokens = share.whole_frames(cast(Tensor, hidden_states))
            return share.without_padding(attend_folded(tokens, folded, frames, attn.heads))
        query = attn.to_q(hidden_states)
        key, value = once(kept, attn, lambda: self._key_value(attn, audio, speaker_positions))
        if speaker_positions is not None:
            dim = query.shape[-1] // attn.heads
            query = norm_rope(query, *speaker_angles(speaker_positions, dim))
        query = share.whole_frames(_split_heads(query, attn.heads))
        query = query.unflatten(1, (frames, -1)).flatten(0, 1)
        output = attend(query, key, value, self._attention_backend)
        output = output.flatten(2).unflatten(0, (batch, frames)).flatten(1, 2)
        return attn.to_out[0](share.without_padding(output))

    def _key_value(
        self, attn: Any, audio: Tensor, speaker_positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[B T, tokens, heads, D] each."""
        key, value = attn.to_kv(audio.flatten(0, 1)).chunk(2, dim=-1)
        if speaker_positions is not None:
            positions = voice_positions(key.shape[1], key.device)
            key = norm_rope(
                key.contiguous(), *speaker_angles(positions, key.shape[-1] // attn.heads)
            )
        return _split_heads(key, attn.heads), _split_heads(value, attn.heads)


def _split_heads(tokens: Tensor, heads: int) -> Tensor:
    """[B, L, C] in, [B, L, heads, C / heads] out."""
    return tokens.unflatten(-1, (heads, -1))


class AudioAttention(nn.Module, AttentionModuleMixin):
    """Attention from [B, L, C] to audio tokens [B, T, tokens, audio_dim].

    Unlike in Wan's own attentions there is no norm on queries and keys.
    """

    _default_processor_cls = AudioAttnProcessor
    _available_processors: ClassVar = [AudioAttnProcessor]

    def __init__(self, dim: int, heads: int, audio_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(audio_dim, 2 * dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.processor: Any = AudioAttnProcessor()

    def forward(
        self,
        hidden_states: Tokens,
        audio: Tensor,
        speaker_positions: Tensor | None = None,
        kept: Kept | None = None,
        share: Share = WHOLE,
    ) -> Tensor:
        return self.processor(self, hidden_states, audio, speaker_positions, kept, share)


def fold_audio_attention(transformer: Any, *, is_folded: bool) -> None:
    """Whether the projections of the audio attention are folded (`farm.model.folding`)."""
    for processor in transformer.attn_processors.values():
        if isinstance(processor, AudioAttnProcessor):
            processor.is_folded = is_folded
