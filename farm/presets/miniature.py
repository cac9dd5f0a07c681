"""The miniature: trained for this package, for tests and demonstrations on a CPU."""

from __future__ import annotations

from dataclasses import replace

from farm.presets import flashtalk
from farm.presets.infinitetalk import COSTS, SHIFTS
from farm.presets.infinitetalk import DEFAULTS as INFINITETALK_DEFAULTS
from farm.presets.preset import Preset

DEFAULTS = replace(
    INFINITETALK_DEFAULTS,
    sample_steps=4,  # more steps and guidance follow the voice less closely (docs/miniature.md)
    sample_text_guide_scale=1.0,
    sample_audio_guide_scale=1.0,
)

MINIATURE = Preset(
    name="miniature",
    good_for="drawn faces only, for trials without a GPU; a photograph does not talk",
    sizes={
        "infinitetalk-480": {
            0.55: (96, 176),
            0.78: (112, 144),
            1.00: (128, 128),
            1.29: (144, 112),
            1.83: (176, 96),
        },
        "infinitetalk-720": {
            0.56: (144, 256),
            0.77: (160, 208),
            1.00: (192, 192),
            1.30: (208, 160),
            1.78: (256, 144),
        },
    },
    defaults=DEFAULTS,
    qualities=flashtalk.QUALITIES,
    shifts=SHIFTS,
    costs=COSTS,
    teacache=dict.fromkeys(
        SHIFTS, (1.0, 0.0)
    ),  # not fitted: blocks change as their modulation does
    sampler="euler",
    dtypes={},
    latents_per_call=10,
    shipped=True,
    for_trials=True,
    parts={
        "transformer": {
            "num_attention_heads": 4,
            "attention_head_dim": 64,
            "num_layers": 6,
            "ffn_dim": 1024,
            "freq_dim": 64,
            "text_dim": 64,
            "text_len": 128,
            "image_dim": 64,
            "audio_layers": 3,
            "audio_dim": 64,
            "audio_hidden_dim": 256,
            "audio_tokens": 8,
            "audio_token_dim": 128,
        },
        # Squares of 2 x 2 pixels as channels: a quarter of the work on a CPU for as many weights.
        "vae": {
            "base_dim": 32,
            "z_dim": 16,
            "dim_mult": [1, 2, 4],
            "num_res_blocks": 1,
            "temperal_downsample": [True, True],
            "patch_size": 2,
            "in_channels": 12,
            "out_channels": 12,
        },
        "text_encoder": {
            "vocab_size": 259,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
        },
        "image_encoder": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 224,
            "patch_size": 14,
            "hidden_act": "gelu",
        },
        "audio_encoder": {
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "conv_dim": [64] * 7,
            "conv_bias": True,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
            "mask_time_prob": 0.0,
        },
    },
)

MINIATURE_FLASHTALK = replace(
    MINIATURE,
    name="miniature-flashtalk",
    good_for="drawn faces in images only, for trials without a GPU; a photograph does not talk",
    weights=MINIATURE.name,
    sizes={flashtalk.SIZE: {1.71: (192, 112)}},
    defaults=flashtalk.DEFAULTS,
    shifts=flashtalk.SHIFTS,
    costs=flashtalk.COSTS,
    teacache={},
    limits=flashtalk.LIMITS,
    takes_videos=False,
    sampler="consistency",
    has_lead_in=True,
)
