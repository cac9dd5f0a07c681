"""The video transformer: Wan's, with ears.

Diffusers' Wan 2.1 image-to-video transformer, to which InfiniteTalk adds a projector (wav2vec2
embeddings become audio tokens for each latent frame) and, in every block, one attention from a
latent frame's pixels to that frame's audio tokens. Whatever the model's dtype, the time path, all
norms and modulations, and the head stay in float32, because guidance multiplies the rounding of the
prediction by 4 or 5.

Shapes: B batch, T latent frames, L tokens, C width, S speakers, H W latent height and width.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import (
    WanTimeTextImageEmbedding,
    WanTransformer3DModel,
    WanTransformerBlock,
)
from torch import Tensor, nn

from farm.errors import InvalidInput
from farm.model.attention import exact
from farm.model.block_attention import (
    AudioAttention,
    Context,
    ContextAttnProcessor,
    Kept,
    VideoAttnProcessor,
    once,
)
from farm.model.caching import BlockCache
from farm.model.fused import Tokens, add_gated, add_norm, linear_gelu
from farm.model.quantise import rounding_of
from farm.model.speakers import positions
from farm.model.tokens import ALONE, WHOLE, RankGroup, Share

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
        encoder_hidden_states: Context,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        audio: Tensor,
        regions: Tensor | None = None,
        kept: Kept | None = None,
        share: Share = WHOLE,
        of_step: Kept | None = None,
    ) -> Tensor:
        """[B, L, C] in and out, of the tokens of a share.

        `temb` [B, 6, C] is float32, and so are the modulations and the gated sums. `rotary_emb` are
        cosines and sines [1, L, D / 2]. `regions` [B, 3, tokens of a latent frame] are the masks of
        the speakers, for two of them. `kept` and `of_step` as in the model.
        """
        modulations = (self.scale_shift_table + temb).transpose(0, 1).unsqueeze(2).contiguous()
        shift1, scale1, gate1, shift2, scale2, gate2 = modulations
        add_normed = partial(add_norm, eps=self.norm1.eps, rounding=rounding_of(self.attn1.to_q))

        # 1. Self-attention
        def attend_to_video() -> tuple[Tensor, Tokens, Tensor | None]:
            x, h = add_normed(hidden_states, 1 + scale1, shift1)
            output, query, key = self.attn1(h, None, None, rotary_emb, share=share)
            speaker_positions = None
            if regions is not None:
                first_frame_key = key[:, : regions.shape[2]]
                kernel = exact(self.attn1.processor._attention_backend)
                speaker_positions = positions(query, first_frame_key, regions, kernel, share)
            x, h = add_normed(x, self.norm2.weight, self.norm2.bias, added=output, gate=gate1)
            return x, h, speaker_positions

        x, h, speaker_positions = once(of_step, self, attend_to_video)
        if regions is None:  # also in a step whose other passes have two speakers
            speaker_positions = None

        # 2. Text and image
        output = self.attn2(h, encoder_hidden_states, None, None, kept=kept)
        is_folded = self.attn_audio.processor.is_folded and regions is None
        rounding = None if is_folded else rounding_of(self.attn_audio.to_q)
        weight, bias = self.norm_audio.weight, self.norm_audio.bias
        x, h = add_normed(x, weight, bias, added=output, rounding=rounding)

        # 3. Audio
        output = self.attn_audio(h, audio, speaker_positions, kept, share)
        x, h = add_normed(x, 1 + scale2, shift2, added=output)

        # 4. Feed-forward
        activation, _, down = self.ffn.net
        output = down(linear_gelu(h, activation.proj, rounding_of(down)))
        return add_gated(x, output, gate2)


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

    def context(self, text: Tensor, text_len: int, image: Tensor) -> Context:
        """Of text [B, tokens, text_dim], which the model sees padded to `text_len`, and image.

        The text's layers come after the padding, which they make a constant token, not zero.
        """
        missing = text_len - text.shape[1]
        padded = F.pad(text, (0, 0, 0, min(missing, 1)))
        return Context(self.text_embedder(padded), max(missing, 1), self.image_embedder(image))


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
        kept: Kept | None = None,
        of_step: Kept | None = None,
        group: RankGroup = ALONE,
    ) -> Tensor:
        """The prediction [B, 16, T, H, W] in float32.

        `hidden_states` [B, 36, T, H, W]: noisy latents (16), mask (4), condition latents (16).
        `timestep` [B], float32. `text` [B, up to text_len, text_dim]. `image` [B, 257, image_dim].
        `audio`: the windows of `farm.model.audio` for latent frame 0 and for the later ones, [B, S,
        ...] each; every item of a batch has the same number of speakers. `regions` [B, 3,
        (H/2)(W/2)] from `farm.model.speakers`, for two speakers. `cache` decides whether this pass
        goes through the blocks. `kept`, empty before the first pass of a chunk, keeps what follows
        from text, image and audio alone; without it that is computed again. `of_step`, empty before
        the first pass of a step, keeps the self-attention of block 0, which has not seen them yet;
        passes with regions come first. The ranks of `group` share the tokens, and all get the
        prediction. Everything but the time is cast here to the dtype of the weights.
        """
        dtype = self.patch_embedding.weight.dtype

        # 1. Everything becomes tokens
        # Diffusers repeats every angle for both channels of a pair.
        cos, sin = self.rope(hidden_states)
        x = self.patch_embedding(hidden_states.to(dtype))
        grid = x.shape[2:]
        share = group.share(grid[0], grid[1] * grid[2])
        x = share.own(x.flatten(2).transpose(1, 2))
        rotary_emb = share.own(cos[..., 0, 0::2].float()), share.own(sin[..., 0, 1::2].float())
        embedding, modulation = self.condition_embedder.time(timestep)
        context, audio_tokens = once(
            kept, self, lambda: self._conditions(text.to(dtype), image.to(dtype), audio)
        )
        if audio[0].shape[1] == 1:
            regions = None
        conditions = (context, modulation, rotary_emb, audio_tokens, regions, kept, share)

        # 2. Blocks
        def run_blocks(x: Tensor) -> Tensor:
            for index, block in enumerate(self.blocks):
                arguments = (*conditions, None if index else of_step)
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(block, x, *arguments)
                else:
                    x = block(x, *arguments)
            return x

        x = cache(x, run_blocks) if cache else run_blocks(x)

        # 3. Head, in float32
        shift, scale = (self.scale_shift_table + embedding[:, None]).chunk(2, dim=1)
        patches = self.proj_out(self.norm_out(x.float()) * (1 + scale) + shift)
        return self._unpatchify(share.gather(patches), grid)

    def _conditions(
        self, text: Tensor, image: Tensor, audio: tuple[Tensor, Tensor]
    ) -> tuple[Context, Tensor]:
        """The context and the audio tokens [B, T, tokens, audio_dim]."""
        text_len = self.config.text_len
        if text.shape[1] > text_len:
            raise InvalidInput(f"text: got {text.shape[1]} tokens; allowed: up to {text_len}")
        first, later = (window.to(text.dtype) for window in audio)
        context = self.condition_embedder.context(text, text_len, image)
        return context, self.audio_proj(first, later)

    def _unpatchify(self, patches: Tensor, grid: torch.Size) -> Tensor:
        """[B, L, pt x ph x pw x 16] in, [B, 16, T, H, W] out."""
        x = patches.unflatten(2, (*self.config.patch_size, -1)).unflatten(1, grid)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
