"""What a request asks of the model; what it leaves open is the operator's or the model's to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.model.presets import Preset
from farm.settings import Settings

if TYPE_CHECKING:
    from farm.model.pipeline import Sampling
    from farm.model.variant import Variant


def sampling(request: JobRequest, model: Preset, settings: Settings) -> Sampling:
    """How the video is drawn."""
    from farm.model.caching import TeaCache
    from farm.model.guidance import Apg
    from farm.model.pipeline import Sampling

    polynomial = model.teacache[request.size]
    return Sampling(
        steps=request.sample_steps,
        shift=model.shifts[request.size] if request.sample_shift is None else request.sample_shift,
        text_scale=request.sample_text_guide_scale,
        audio_scale=request.sample_audio_guide_scale,
        colour_strength=request.color_correction_strength,
        motion_frame=request.motion_frame,
        seed=request.base_seed,
        skip_last_step=settings.skip_last_step,
        apg=Apg(request.apg_momentum, request.apg_norm_threshold) if request.use_apg else None,
        teacache=TeaCache(request.teacache_thresh, polynomial) if request.use_teacache else None,
    )


def variant(request: JobRequest, settings: Settings) -> Variant:
    """The model as the request wants it, where the farm's operator allows that; InvalidInput says where not."""
    from farm.model.variant import Variant

    files = dict(settings.loras)
    for index, lora in enumerate(request.lora):
        if lora.name not in files:
            known = ", ".join(sorted(files)) or "none"
            raise InvalidInput(f"lora.{index}.name: got {lora.name!r}; adapters of this farm: {known}")
    return Variant(
        adapters=tuple((files[lora.name], lora.scale) for lora in request.lora),
        quant=_scheme(request.quant or settings.quant, settings),
        resident=_resident(request, settings),
    )


def usual_variant(settings: Settings) -> Variant:
    """The model as this farm's operator wants it where a request does not say."""
    from farm.model.variant import Variant

    return Variant(quant=_scheme(settings.quant, settings), resident=0 if settings.offload == "on" else None)


def as_used(request: JobRequest, drawn: Sampling, settings: Settings, attention: str) -> dict[str, Any]:
    """The parameters that a request may leave open, as they are used, and those that only the operator sets."""
    from farm.model.text import DEFAULT_NEGATIVE_PROMPT

    wanted = variant(request, settings)
    return {
        "sample_shift": drawn.shift,
        "negative_prompt": DEFAULT_NEGATIVE_PROMPT if request.negative_prompt is None else request.negative_prompt,
        "quant": wanted.quant,
        "offload_model": wanted.resident is not None,
        "num_persistent_param_in_dit": wanted.resident,
        "skip_last_step": drawn.skip_last_step,
        "attention": attention,
    }


def _scheme(quant: str | None, settings: Settings) -> str | None:
    """The name that `farm.model.quantise` knows it by."""
    return f"{quant}-dynamic" if quant and settings.quant_activations else quant


def _resident(request: JobRequest, settings: Settings) -> int | None:
    """How many of the blocks' parameters stay on the device; None = all of them."""
    stream, count = request.offload_model, request.num_persistent_param_in_dit
    if stream is False and count is not None:
        raise InvalidInput(
            f"num_persistent_param_in_dit: got {count}; with offload_model false every parameter stays on the device"
        )
    if settings.offload == "off" and (stream or count is not None):
        field = "offload_model" if stream else "num_persistent_param_in_dit"
        raise InvalidInput(f"{field}: the workers of this farm keep the model on the device (FARM_OFFLOAD is off)")
    if settings.offload == "on" and stream is False:
        raise InvalidInput("offload_model: got false; the workers of this farm always stream it (FARM_OFFLOAD is on)")
    return count or 0 if stream or count is not None or settings.offload == "on" else None
