"""The video transformer: Wan's, with ears.

Diffusers' Wan 2.1 image-to-video transformer, to which InfiniteTalk adds a projector (wav2vec2
embeddings become audio tokens for each latent frame) and, in every block, one attention from a
latent frame's pixels to that frame's audio tokens. Whatever the model's dtype, the time path, all
norms and modulations, and the head stay in float32, because guidance multiplies the rounding of the
prediction by 4 or 5.

Shapes: B batch, T latent frames, L tokens, C width, S speakers, H W latent height and width.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import (
    WanTimeTextImageEmbedding,
    WanTransformer3DModel,
    WanTransformerBlock,
)
from torch import Tensor, nn

from farm.errors import InvalidInput
from farm.model.caching import BlockCache
from farm.model.speakers import (
    apply_rope,
    apply_speaker_rope,
    positions,
    voice_positions,
)

IMAGE_TOKENS = 257
"""CLIP's class token and 16 x 16 patches; they come before the text in the context."""

TEMPORAL_STRIDE = 4
"""Video frames that one latent frame stands for, the first excepted."""


class AudioProjector(nn.Module):
    """Audio tokens for each latent frame, from its window of rows (`farm.model.audio`).

    Latent frame 0 hears `window` rows, every later one `window + 3`, so there are two first layers.
    """

    def __init__(
        self,
        *,
        window: int,
        row_dim: int,
        hidden: int,
        tokens: int,
        token_dim: int,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj1 = nn.Linear(window * row_dim, hidden)
        self.proj1_vf = nn.Linear((window + TEMPORAL_STRIDE - 1) * row_dim, hidden)
        self.proj2 = nn.Linear(hidden, hidden)
        self.proj3 = nn.Linear(hidden, tokens * token_dim)
        self.norm = FP32LayerNorm(token_dim, eps=1e-5)

    def forward(self, first: Tensor, later: Tensor) -> Tensor:
        """The audio tokens [B, T, S x tokens, token_dim].

        `first` [B, S, 5, layers, dim] is the window of latent frame 0, `later`
        [B, S, T-1, 8, layers, dim] holds the others.
        """
        first_hidden = self.proj1(first.flatten(2))[:, :, None]
        later_hidden = self.proj1_vf(later.flatten(3))
        hidden = F.relu(torch.cat([first_hidden, later_hidden], dim=2))
        hidden = F.relu(self.proj2(hidden))
        tokens = self.norm(self.proj3(hidden).unflatten(-1, (self.tokens, -1)))
        return tokens.transpose(1, 2).flatten(2, 3)


class VideoAttnProcessor:
    """Self-attention that also returns its queries and keys, for `farm.model.speakers`."""

    # Names that diffusers' dispatcher sets and reads.
    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        _text: None,
        _mask: None,
        rotary_emb: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Diffusers repeats every angle for both channels of a pair.
        cos = rotary_emb[0][..., 0::2]
        sin = rotary_emb[1][..., 1::2]
        query = _split_heads(attn.norm_q(attn.to_q(hidden_states)), attn.heads)
        key = _split_heads(attn.norm_k(attn.to_k(hidden_states)), attn.heads)
        value = _split_heads(attn.to_v(hidden_states), attn.heads)
        query = apply_rope(query, cos, sin)
        key = apply_rope(key, cos, sin)
        output = dispatch_attention_fn(
            query,
            key,
            value,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        return attn.to_out[1](attn.to_out[0](output.flatten(2))), query, key


class ContextAttnProcessor:
    """Attention to the image and to the text with the same queries; the two outputs are added.

    The stock processor splits the context at `length - 512`, which is silently wrong for any other
    length of the text.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        *_: None,
    ) -> Tensor:
        image = encoder_hidden_states[:, :IMAGE_TOKENS]
        text = encoder_hidden_states[:, IMAGE_TOKENS:]
        query = attn.norm_q(attn.to_q(hidden_states))
        text_key = attn.norm_k(attn.to_k(text))
        image_key = attn.norm_added_k(attn.add_k_proj(image))
        output = self._attend(attn, query, text_key, attn.to_v(text))
        output = output + self._attend(attn, query, image_key, attn.add_v_proj(image))
        return attn.to_out[1](attn.to_out[0](output))

    def _attend(self, attn: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = dispatch_attention_fn(
            _split_heads(query, attn.heads),
            _split_heads(key, attn.heads),
            _split_heads(value, attn.heads),
            backend=self._attention_backend,
        )
        return output.flatten(2)


class AudioAttnProcessor:
    """Attention inside each latent frame, from its pixels to its audio tokens.

    With two speakers, pixels and voices have positions on a line (`farm.model.speakers`).
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        audio: Tensor,
        speaker_positions: Tensor | None,
    ) -> Tensor:
        batch, frames = audio.shape[:2]
        query = _split_heads(attn.to_q(hidden_states), attn.heads)
        key_value = attn.to_kv(audio).unflatten(-1, (2, attn.heads, -1))
        key, value = key_value.flatten(0, 1).unbind(2)
        if speaker_positions is not None:
            query = apply_speaker_rope(query, speaker_positions)
            key = apply_speaker_rope(key, voice_positions(key.shape[1], key.device))
        query = query.unflatten(1, (frames, -1)).flatten(0, 1)
        output = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
        output = output.flatten(2).unflatten(0, (batch, frames)).flatten(1, 2)
        return attn.to_out[0](output)


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
        hidden_states: Tensor,
        audio: Tensor,
        speaker_positions: Tensor | None = None,
    ) -> Tensor:
        return self.processor(self, hidden_states, audio, speaker_positions)


class InfiniteTalkBlock(WanTransformerBlock):
    """Self-attention, attention to text and image, attention to the audio, feed-forward."""

    def __init__(self, *, dim: int, ffn_dim: int, heads: int, eps: float, audio_dim: int) -> None:
        super().__init__(
            dim,
            ffn_dim,
            heads,
            cross_attn_norm=True,
            eps=eps,
            added_kv_proj_dim=dim,
        )
        self.attn1.set_processor(VideoAttnProcessor())
        self.attn2.set_processor(ContextAttnProcessor())
        self.norm_audio = FP32LayerNorm(dim, eps)
        self.attn_audio = AudioAttention(dim, heads, audio_dim)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        audio: Tensor,
        regions: Tensor | None = None,
    ) -> Tensor:
        """[B, L, C] in and out.

        `temb` [B, 6, C] is float32, and so are the modulations and the gated sums. `regions`
        [B, 3, tokens of a latent frame] are the masks of the speakers, for two of them.
        """
        x = hidden_states
        modulations = (self.scale_shift_table + temb).chunk(6, dim=1)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulations

        # 1. Self-attention
        h = (self.norm1(x.float()) * (1 + scale1) + shift1).type_as(x)
        output, query, key = self.attn1(h, None, None, rotary_emb)
        x = (x.float() + output * gate1).type_as(x)
        speaker_positions = None
        if regions is not None:
            first_frame_key = key[:, : regions.shape[2]]
            kernel = self.attn1.processor._attention_backend
            speaker_positions = positions(query, first_frame_key, regions, kernel)

        # 2. Text and image
        x = x + self.attn2(self.norm2(x.float()).type_as(x), encoder_hidden_states)

        # 3. Audio
        h = self.norm_audio(x.float()).type_as(x)
        x = x + self.attn_audio(h, audio, speaker_positions)

        # 4. Feed-forward
        h = (self.norm3(x.float()) * (1 + scale2) + shift2).type_as(x)
        return (x.float() + self.ffn(h).float() * gate2).type_as(x)


class ConditionEmbedder(WanTimeTextImageEmbedding):
    """Wan's embeddings of time, text and image, with the time in float32 from end to end.

    A timestep in bfloat16 (731.25 becomes 732) changes the prediction by 0.5 %.
    """

    def time(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding [B, C] of times [B] in 0..1000, and the blocks' modulations [B, 6, C].

        Both are float32.
        """
        embedding = self.time_embedder(self.timesteps_proj(timestep.float()))
        modulations = self.time_proj(self.act_fn(embedding)).unflatten(1, (6, -1))
        return embedding, modulations

    def context(self, text: Tensor, image: Tensor) -> Tensor:
        """The context [B, 257 + text_len, C] of text [B, text_len, text_dim] and image tokens."""
        return torch.cat([self.image_embedder(image), self.text_embedder(text)], dim=1)


class InfiniteTalkTransformer(WanTransformer3DModel):
    """Predicts noise minus video for one chunk, given text, image, audio and time."""

    _no_split_modules: ClassVar = ["InfiniteTalkBlock"]
    _repeated_blocks: ClassVar = ["InfiniteTalkBlock"]
    _keep_in_fp32_modules: ClassVar = [
        *WanTransformer3DModel._keep_in_fp32_modules,
        "norm_audio",
        "time_proj",
        "proj_out",
    ]
    _skip_layerwise_casting_patterns: ClassVar = [
        *WanTransformer3DModel._skip_layerwise_casting_patterns,
        "audio_proj",
    ]

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 36,
        out_channels: int = 16,
        text_dim: int = 4096,
        text_len: int = 512,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        eps: float = 1e-6,
        image_dim: int = 1280,
        rope_max_seq_len: int = 1024,
        audio_window: int = 5,
        audio_layers: int = 12,
        audio_dim: int = 768,
        audio_hidden_dim: int = 512,
        audio_tokens: int = 32,
        audio_token_dim: int = 768,
    ) -> None:
        width = num_attention_heads * attention_head_dim
        # The undecorated constructor: the decorated one would register Wan's arguments as our
        # configuration.
        WanTransformer3DModel.__init__.__wrapped__(
            self,
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=0,  # the blocks are our own, below
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=width,
            rope_max_seq_len=rope_max_seq_len,
        )
        self.condition_embedder = ConditionEmbedder(width, freq_dim, 6 * width, text_dim, image_dim)
        self.audio_proj = AudioProjector(
            window=audio_window,
            row_dim=audio_layers * audio_dim,
            hidden=audio_hidden_dim,
            tokens=audio_tokens,
            token_dim=audio_token_dim,
        )
        self.blocks = nn.ModuleList(
            InfiniteTalkBlock(
                dim=width,
                ffn_dim=ffn_dim,
                heads=num_attention_heads,
                eps=eps,
                audio_dim=audio_token_dim,
            )
            for _ in range(num_layers)
        )

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        *,
        text: Tensor,
        image: Tensor,
        audio: tuple[Tensor, Tensor],
        regions: Tensor | None = None,
        cache: BlockCache | None = None,
    ) -> Tensor:
        """The prediction [B, 16, T, H, W] in float32.

        `hidden_states` [B, 36, T, H, W]: noisy latents (16), mask (4), condition latents (16).
        `timestep` [B], float32. `text` [B, up to text_len, text_dim]. `image` [B, 257, image_dim].
        `audio`: the windows of `farm.model.audio` for latent frame 0 and for the later ones, [B, S,
        ...] each; every item of a batch has the same number of speakers. `regions` [B, 3,
        (H/2)(W/2)] from `farm.model.speakers`, for two speakers. `cache` decides whether this pass
        goes through the blocks. Everything but the time is cast here to the dtype of the weights.
        """
        dtype = self.patch_embedding.weight.dtype

        # 1. Everything becomes tokens
        rotary_emb = self.rope(hidden_states)
        x = self.patch_embedding(hidden_states.to(dtype))
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2).contiguous()
        embedding, modulation = self.condition_embedder.time(timestep)
        text = self._pad_text(text).to(dtype)
        context = self.condition_embedder.context(text, image.to(dtype))
        first, later = audio
        audio_tokens = self.audio_proj(first.to(dtype), later.to(dtype))
        speakers = first.shape[1]
        if speakers == 1:
            regions = None
        conditions = (context, modulation, rotary_emb, audio_tokens, regions)

        # 2. Blocks
        def run_blocks(x: Tensor) -> Tensor:
            for block in self.blocks:
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(block, x, *conditions)
                else:
                    x = block(x, *conditions)
            return x

        x = cache(x, run_blocks) if cache else run_blocks(x)

        # 3. Head, in float32
        shift, scale = (self.scale_shift_table + embedding[:, None]).chunk(2, dim=1)
        patches = self.proj_out(self.norm_out(x.float()) * (1 + scale) + shift)
        return self._unpatchify(patches, grid)

    def _pad_text(self, text: Tensor) -> Tensor:
        """Text features with zeros up to text_len.

        The text's layers come after the padding, so the model sees it as a constant token, not
        zero.
        """
        missing = self.config.text_len - text.shape[1]
        if missing < 0:
            raise InvalidInput(
                f"text: got {text.shape[1]} tokens; allowed: up to {self.config.text_len}"
            )
        return F.pad(text, (0, 0, 0, missing))

    def _unpatchify(self, patches: Tensor, grid: torch.Size) -> Tensor:
        """[B, L, pt x ph x pw x 16] in, [B, 16, T, H, W] out."""
        x = patches.unflatten(2, (*self.config.patch_size, -1)).unflatten(1, grid)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
