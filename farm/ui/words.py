"""The page's words for the fields of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Words(NamedTuple):
    """What a field is called on the page, and what it is for."""

    label: str
    info: str


ADVANCED: Mapping[str, Words] = {
    "model": Words("Model", "empty: the farm's default"),
    "size": Words("Size", "the shape follows the face; empty: the model's default"),
    "negative_prompt": Words("Not in the video", "in words; empty: the model's default"),
    "sample_steps": Words("Denoise steps", "more are slower; empty: as the quality says"),
    "sample_text_guide_scale": Words(
        "Guidance by the prompt", "0 to 20; empty: as the quality says"
    ),
    "sample_audio_guide_scale": Words(
        "Guidance by the voice", "0 to 20; empty: as the quality says"
    ),
    "sample_shift": Words("Shift of the noise schedule", "empty: that of the size"),
    "color_correction_strength": Words("Colour correction", "between chunks, 0 to 1"),
    "base_seed": Words("Random seed", "the same seed makes the same video; -1 draws one"),
    "mode": Words("Length", "as long as the voice, or only one chunk"),
    "frame_num": Words("Frames in a chunk", "1 more than a multiple of 4; empty: the model's"),
    "max_frame_num": Words("Most frames", "25 are a second; empty: all that the voice needs"),
    "motion_frame": Words(
        "Frames shared by chunks", "1 more than a multiple of 4; empty: the model's"
    ),
    "use_teacache": Words("Reuse similar steps", "TeaCache: quicker, slightly less exact"),
    "teacache_thresh": Words("How similar they are", "TeaCache threshold, 0 to 1"),
    "apg_momentum": Words("Momentum of projected guidance", "-1 to 1"),
    "apg_norm_threshold": Words("Norm limit of projected guidance", "0 to 1,000,000"),
    "lora": Words("LoRA adapters", 'those of the operator: [{"name": "...", "scale": 1}]'),
    "quant": Words("8-bit weights", "empty: as the quality says, else as the operator does"),
    "priority": Words("Priority", "in the queue"),
    "placement": Words("Where", "on any GPU, or only on the farm's own, never on rented ones"),
    "max_cost": Words("Highest cost", "a video that would cost more is refused; empty: any"),
    "use_apg": Words("Projected guidance", "APG: strong guidance with fewer glaring colours"),
    "scene_seg": Words("Each scene by itself", "for a face in a video with several scenes"),
}
"""The collapsed fields, whose defaults suit most videos; checkboxes last."""

CHOICES: Mapping[str, Mapping[str, str]] = {
    "mode": {"auto": "as long as the voice", "streaming": "up to 1000 frames", "clip": "one chunk"},
    "use_teacache": {"": "as the quality says", "true": "yes", "false": "no"},
    "quality": {
        "": "the model's own",
        "draft": "draft: quickest",
        "fast": "fast: nearly as good",
        "best": "best: slowest",
    },
}
"""What values are called."""

STATES: Mapping[str, str] = {
    "queued": "waiting",
    "running": "running",
    "success": "done",
    "error": "failed",
    "cancelled": "cancelled",
}
