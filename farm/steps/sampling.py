"""What a request asks of the model, with defaults of the operator and the preset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.engine.step_context import StepContext
from farm.errors import InvalidInput
from farm.job import ResolvedRequest
from farm.registry.outputs import UsedParameters
from farm.settings import Settings
from farm.steps.gpus import device_of

if TYPE_CHECKING:
    from farm.model.denoise import Sampling
    from farm.model.variant import Variant


def sampling(request: ResolvedRequest, settings: Settings) -> Sampling:
    """The parameters of the denoise loop."""
    from farm.model.caching import TeaCache
    from farm.model.denoise import Sampling
    from farm.model.guidance import Apg
    from farm.model.sampler import SAMPLERS

    model = request.preset
    shift = request.sample_shift
    if shift is None:
        shift = model.shifts[request.size]
    apg = None
    if request.use_apg:
        apg = Apg(request.apg_momentum, request.apg_norm_threshold)
    teacache = None
    if request.use_teacache:
        teacache = TeaCache(request.teacache_thresh, model.teacache[request.size])
    return Sampling(
        steps=request.sample_steps,
        shift=shift,
        text_scale=request.sample_text_guide_scale,
        audio_scale=request.sample_audio_guide_scale,
        colour_strength=request.color_correction_strength,
        motion_frame=request.motion_frame,
        seed=request.base_seed,
        skip_last_step=settings.skip_last_step
        and not request.is_exact
        and SAMPLERS[model.sampler].can_skip_last_step,
        apg=apg,
        teacache=teacache,
    )


def settled(ctx: StepContext) -> ResolvedRequest:
    """The request of the step's job, with `auto` of quant decided for the device of this worker.

    A later chunk takes what the one before has taken, which works on every device.
    """
    from farm.model.quantise import SCHEMES, quick_scheme

    request = ctx.request
    if request.quant != "auto":
        return request
    scheme: str | None
    if ctx.step.chunk:
        ending = ctx.chunk_output(ctx.step.chunk - 1).weights.rpartition("+")[2]
        scheme = ending if ending in SCHEMES else None
    elif _resident_parameters(request, ctx.settings) is None:
        scheme = ctx.settings.quant or quick_scheme(device_of(ctx.settings))
    else:  # blocks that are streamed take a minute to be pinned again
        scheme = ctx.settings.quant
    return request.model_copy(update={"quant": scheme or "none"})


def variant(request: ResolvedRequest, settings: Settings) -> Variant:
    """The model as a settled request wants it; InvalidInput if the operator does not allow it."""
    from farm.model.variant import Variant

    _check_offload(request, settings)
    files = dict(settings.loras)
    for index, lora in enumerate(request.lora):
        if lora.name not in files:
            known = ", ".join(sorted(files)) or "none"
            raise InvalidInput(
                f"lora.{index}.name: got {lora.name!r}; adapters of this farm: {known}"
            )
    return Variant(
        adapters=tuple((files[lora.name], lora.scale) for lora in request.lora),
        quant=None if request.quant == "none" else request.quant or settings.quant,
        resident_parameters=_resident_parameters(request, settings),
    )


def default_variant(settings: Settings) -> Variant:
    """The model as the operator wants it where a request does not say."""
    from farm.model.variant import Variant

    resident = 0 if settings.offload == "on" else None
    return Variant(quant=settings.quant, resident_parameters=resident)


def used_parameters(
    request: ResolvedRequest, parameters: Sampling, settings: Settings, attention: str
) -> UsedParameters:
    """Parameters that a request may leave open, and those of the operator, as they are used."""
    from farm.model.text import DEFAULT_NEGATIVE_PROMPT

    negative_prompt = None
    if parameters.reads_negative_prompt:
        negative_prompt = request.negative_prompt
        if negative_prompt is None:
            negative_prompt = DEFAULT_NEGATIVE_PROMPT
    wanted = variant(request, settings)
    return UsedParameters(
        sample_shift=parameters.shift,
        negative_prompt=negative_prompt,
        quant=wanted.quant,
        offload_model=wanted.resident_parameters is not None,
        num_persistent_param_in_dit=wanted.resident_parameters,
        skip_last_step=parameters.skip_last_step,
        attention=attention,
        fold_audio=settings.fold_audio,
    )


def _check_offload(request: ResolvedRequest, settings: Settings) -> None:
    """Raises InvalidInput for offloading that contradicts itself or the operator's setting."""
    offload = request.offload_model
    count = request.num_persistent_param_in_dit
    if offload is False and count is not None:
        raise InvalidInput(
            f"num_persistent_param_in_dit: got {count}; "
            "with offload_model false every parameter stays on the device"
        )
    if settings.offload == "off" and (offload or count is not None):
        field = "offload_model" if offload else "num_persistent_param_in_dit"
        raise InvalidInput(
            f"{field}: the workers of this farm keep the model on the device (FARM_OFFLOAD is off)"
        )
    if settings.offload == "on" and offload is False:
        raise InvalidInput(
            "offload_model: got false; the workers of this farm always offload the model "
            "(FARM_OFFLOAD is on)"
        )


def _resident_parameters(request: ResolvedRequest, settings: Settings) -> int | None:
    """How many of the blocks' parameters stay on the device; None = all of them."""
    count = request.num_persistent_param_in_dit
    is_offloaded = request.offload_model or count is not None or settings.offload == "on"
    return (count or 0) if is_offloaded else None
