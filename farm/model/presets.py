"""The models: sizes, defaults and configurations as data.

A preset holds everything in which the miniature differs from the 14 billion parameters; the code
has no other switch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.errors import InvalidInput, did_you_mean

Buckets = Mapping[float, tuple[int, int]]
"""Height / width ratio to (height, width) in pixels; both are multiples of 16."""


@dataclass(frozen=True)
class Preset:
    """One model: the sizes that it can generate and how its parts are built."""

    name: str
    sizes: Mapping[str, Buckets]
    shifts: Mapping[str, float]
    """The schedule's shift for each size, unless the job names one."""
    teacache: Mapping[str, tuple[float, ...]]
    """The polynomial of `farm.model.caching` for each size; highest power first."""
    sampler: str
    """One of `farm.model.sampler.SAMPLERS`."""
    has_lead_in: bool
    """Whether a scene begins with `motion_frame` frames that are generated and not shown."""
    dtypes: Mapping[str, str]
    """The dtype of each part that is not loaded in float32."""
    latents_per_call: int
    """Of the autoencoder; more are faster and take more memory.

    4 at 640x640 take about 3 GB for each feature map.
    """
    parts: Mapping[str, Mapping[str, Any]]
    """Each part's configuration, by the name of its folder."""
    shipped: bool = False
    """Whether the weights come with this package; others are pulled and converted."""

    def dtype_of(self, part: str) -> str:
        """The dtype that a part is stored and loaded in."""
        return self.dtypes.get(part, "float32")

    def folder(self, root: Path) -> Path:
        """The folder of the weights: beside this file if they are shipped, else under `root`."""
        parent = Path(__file__).parent if self.shipped else root
        return parent / self.name

    def buckets(self, size: str) -> Buckets:
        """The shapes of videos of a size; InvalidInput if this model does not make it."""
        if size not in self.sizes:
            sizes = ", ".join(self.sizes)
            raise InvalidInput(f"size: got {size!r}; the model {self.name} makes {sizes}")
        return self.sizes[size]

    def missing_parts(self, folder: Path) -> list[str]:
        """The parts that a folder of this model lacks, the tokenizer among them."""
        return [part for part in (*self.parts, "tokenizer") if not (folder / part).is_dir()]

    @property
    def remedy(self) -> str:
        """The command that fetches missing weights."""
        if self.shipped:
            return "reinstall the package"
        return "run `farm weights pull`, then `farm weights convert`"


SHIFTS = {"infinitetalk-480": 7.0, "infinitetalk-720": 11.0}

MINIATURE = Preset(
    name="miniature",
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
    shifts=SHIFTS,
    teacache=dict.fromkeys(
        SHIFTS, (1.0, 0.0)
    ),  # not fitted: blocks change as their modulation does
    sampler="euler",
    has_lead_in=False,
    dtypes={},
    latents_per_call=10,
    shipped=True,
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

INFINITETALK = Preset(
    name="infinitetalk-480",
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
    shifts=SHIFTS,
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
    has_lead_in=False,
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

PRESETS = {each.name: each for each in (MINIATURE, INFINITETALK)}


def preset(name: str) -> Preset:
    """The preset of that name; InvalidInput with the known names if there is none."""
    if name in PRESETS:
        return PRESETS[name]
    known = ", ".join(sorted(PRESETS))
    raise InvalidInput(f"preset: got {name!r}; allowed: {known}{did_you_mean(name, PRESETS)}")


def nearest_bucket(height: int, width: int, buckets: Buckets) -> tuple[int, int]:
    """The (height, width) whose ratio is nearest to the image's.

    Of equals, the one listed first.
    """
    ratio = min(buckets, key=lambda key: abs(key - height / width))
    return buckets[ratio]


def cropped_share(height: int, width: int, buckets: Buckets) -> float:
    """The share of an image, 0 to 1, that is lost as it is cropped to its nearest bucket."""
    new_height, new_width = nearest_bucket(height, width, buckets)
    scale = max(new_height / height, new_width / width)
    return 1 - (new_height * new_width) / (scale * height * scale * width)
