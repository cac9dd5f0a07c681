"""SoulX-FlashTalk: InfiniteTalk's network with other weights, one pass in each of four steps.

Source: Soul-AILab/SoulX-FlashTalk, commit 688982e.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from farm.presets.infinitetalk import INFINITETALK
from farm.presets.preset import Cost, Defaults, Limit, Quality

SIZE = "flashtalk-448"

DEFAULTS = Defaults(
    size=SIZE,
    frame_num=33,
    motion_frame=5,
    sample_steps=4,
    sample_text_guide_scale=1.0,
    sample_audio_guide_scale=1.0,
)

QUALITIES: dict[Quality, dict[str, Any]] = {
    "draft": {"sample_steps": 2},
    "fast": {"quant": "auto"},
    "best": {"quant": "none"},
}

SHIFTS = {SIZE: 5.0}

COSTS = {SIZE: Cost(33, pass_s={1: 0.8}, decode_s=0.58)}

LIMITS = {
    "sample_steps": Limit((4, 2), "was distilled for few steps"),
    "sample_text_guide_scale": Limit((1,), "was distilled with its guidance"),
    "sample_audio_guide_scale": Limit((1,), "was distilled with its guidance"),
    "negative_prompt": Limit((None,), "has no guidance, which alone reads a negative prompt"),
    "use_teacache": Limit((False,), "has no steps to spare"),
    "use_apg": Limit((False,), "has no guidance to project"),
    "lora": Limit(((),), "is distilled already; adapters for InfiniteTalk do not fit"),
    "speakers": Limit((1,), "was trained with one speaker"),
}

FLASHTALK = replace(
    INFINITETALK,
    name="flashtalk",
    good_for="people and drawn faces in images, in four steps",
    sizes={SIZE: {1.71: (768, 448)}},
    defaults=DEFAULTS,
    qualities=QUALITIES,
    shifts=SHIFTS,
    costs=COSTS,
    teacache={},
    limits=LIMITS,
    takes_videos=False,
    sampler="consistency",
    has_lead_in=True,
)
