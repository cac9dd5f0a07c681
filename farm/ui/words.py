"""The page's words for the fields of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Words(NamedTuple):
    """What a field is called on the page, and what it is for."""

    label: str
    info: str


ADVANCED: Mapping[str, Words] = {
    "model": Words("Model", "which makes the video"),
    "size": Words("Size", "in pixels; the shape follows the face"),
    "negative_prompt": Words("Not in the video", "in words; empty: the model's own"),
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
    "quant": Words("8-bit weights", "by default as the quality or the operator says"),
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
    "quality": {"": "model's own", "draft": "draft", "fast": "fast", "best": "best"},
}
"""What values are called."""

INPUT_LABELS: Mapping[str, str] = {
    "face": "Face",
    "speakers": "Speakers",
    "voice": "Voice",
    "audio1": "Recording",
    "audio2": "Recording of the second speaker",
    "order": "Two recordings",
    "text": "Text to speak",
    "voice1": "Speaker's voice",
    "voice2": "Second speaker's voice",
    "boxes": "Boxes",
    "prompt": "Prompt",
    "quality": "Quality",
}
"""What the inputs are called that are always shown."""

AGAIN = "Make it once more; if that fails too, tell the farm's operator."
FAILURES: Mapping[str, str] = {
    "E_UNREACHABLE": "The farm does not answer. Nothing is lost: what is being made goes on as "
    "soon as it is back. Try again in a minute.",
    "E_DOWNLOAD_FAILED": "The farm does not have a file of this video any more. Choose your files "
    "once more, and make it again.",
    "E_UPLOAD": f"The farm could not store the video. {AGAIN}",
    "E_CORRUPT_OBJECT": "A file of this video was damaged in the farm. Choose your files once "
    "more, and make it again.",
    "E_AUDIO_EMBEDDING": f"The farm could not analyse the voice. {AGAIN}",
    "E_PIPELINE_LOAD": "The farm could not load its model. Tell its operator; your files are fine.",
    "E_OOM": "The video does not fit into the farm's GPU. Choose a smaller size under Advanced.",
    "E_GENERATION_RUNTIME": f"The model failed at this video. {AGAIN}",
    "E_FFMPEG": f"The farm could not encode the video. {AGAIN}",
    "E_TIMEOUT": "The video took longer than the farm allows. Try again later, or with a shorter "
    "voice.",
    "E_WORKER_LOST": f"The farm tried several times to make this video, and failed. {AGAIN}",
    "E_WEIGHTS_CHANGED": "The farm's model was replaced meanwhile. Make the video once more.",
    "E_VERSION_SKEW": "The farm was updated meanwhile and cannot read this video's settings. "
    "Enter them once more.",
    "E_INTERNAL": f"Something went wrong in the farm. {AGAIN}",
}
"""What a visitor is told of errors that only an operator understands, by their code: what
happened, and what to do. The other errors say it themselves.
"""

STATES: Mapping[str, str] = {
    "queued": "waiting",
    "running": "running",
    "success": "done",
    "error": "failed",
    "cancelled": "cancelled",
}
