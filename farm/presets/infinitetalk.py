"""InfiniteTalk: Wan 2.1 image-to-video 14B with audio, three passes in each of 40 steps."""

from __future__ import annotations

from typing import Any

from farm.presets.preset import Cost, Defaults, Preset, Quality

DEFAULTS = Defaults(
    size="infinitetalk-480",
    frame_num=81,
    motion_frame=9,
    sample_steps=40,
    sample_text_guide_scale=5.0,
    sample_audio_guide_scale=4.0,
)

QUALITIES: dict[Quality, dict[str, Any]] = {
    "draft": {
        "sample_steps": 4,
        "sample_text_guide_scale": 1.0,
        "sample_audio_guide_scale": 1.0,
    },
    "fast": {"sample_steps": 12, "use_teacache": True, "quant": "auto"},
    "best": {"quant": "none"},
}

SHIFTS = {"infinitetalk-480": 7.0, "infinitetalk-720": 11.0}

COSTS = {
    "infinitetalk-480": Cost(81, pass_s={1: 2.97, 2: 3.04}, decode_s=1.5),
    # Computed: a pass takes 3.36 times as long as at 480 (13.2 and 3.93 s on an H100), and the rest
    # follows the pixels.
    "infinitetalk-720": Cost(81, pass_s={1: 9.98, 2: 10.2}, decode_s=3.4),
}

INFINITETALK = Preset(
    name="infinitetalk-480",
    good_for="people and drawn faces, in images and videos",
    sizes={
        "infinitetalk-480": {
            0.26: (320, 1216),
            0.38: (384, 1024),
            0.50: (448, 896),
            0.67: (512, 768),
            0.82: (576, 704),
            1.00: (640, 640),
            1.22: (704, 576),
            1.50: (768, 512),
            1.86: (832, 448),
            2.00: (896, 448),
            2.50: (960, 384),
            2.83: (1088, 384),
            3.60: (1152, 320),
            3.80: (1216, 320),
            4.00: (1280, 320),
        },
        "infinitetalk-720": {
            0.22: (448, 2048),
            0.29: (512, 1792),
            0.36: (576, 1600),
            0.45: (640, 1408),
            0.55: (704, 1280),
            0.63: (768, 1216),
            0.76: (832, 1088),
            0.88: (896, 1024),
            1.00: (960, 960),
            1.14: (1024, 896),
            1.31: (1088, 832),
            1.50: (1152, 768),
            1.58: (1216, 768),
            1.82: (1280, 704),
            1.91: (1344, 704),
            2.20: (1408, 640),
            2.30: (1472, 640),
            2.67: (1536, 576),
            2.89: (1664, 576),
            3.62: (1856, 512),
            3.75: (1920, 512),
        },
    },
    defaults=DEFAULTS,
    qualities=QUALITIES,
    shifts=SHIFTS,
    costs=COSTS,
    # Fitted by TeaCache's authors to Wan 2.1 image-to-video 14B, for the signal after the
    # projection.
    teacache={
        "infinitetalk-480": (
            2.57151496e5,
            -3.54229917e4,
            1.40286849e3,
            -1.35890334e1,
            1.32517977e-1,
        ),
        "infinitetalk-720": (
            8.10705460e3,
            2.13393892e3,
            -3.72934672e2,
            1.66203073e1,
            -4.17769401e-2,
        ),
    },
    sampler="euler",
    dtypes={
        "transformer": "bfloat16",
        "text_encoder": "bfloat16",
        "image_encoder": "float16",  # as the original; bfloat16 has six times its error
    },
    latents_per_call=1,  # a GPU is busy with one, and four at 720 take 20 GB
    parts={
        "transformer": {
            "num_attention_heads": 40,
            "attention_head_dim": 128,
            "num_layers": 40,
            "ffn_dim": 13824,
        },
        "vae": {"base_dim": 96, "z_dim": 16},
        "text_encoder": {
            "vocab_size": 256_384,
            "d_model": 4096,
            "d_kv": 64,
            "d_ff": 10_240,
            "num_layers": 24,
            "num_heads": 64,
            "feed_forward_proj": "gated-gelu",
        },
        "image_encoder": {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "image_size": 224,
            "patch_size": 14,
            "hidden_act": "gelu",
        },
        "audio_encoder": {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "mask_time_prob": 0.0,
        },
    },
)
