"""The device of a gpu worker, and whether machine and model allow it several cards."""

from __future__ import annotations

from farm.presets import Preset
from farm.settings import Settings


def device_of(settings: Settings) -> str:
    """The torch device of a gpu worker."""
    if settings.device != "auto":
        return settings.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def gpus_fault(settings: Settings, model: Preset) -> str | None:
    """Why FARM_GPUS cards cannot share the passes of a model here; None if they can."""
    gpus = settings.gpus
    if gpus == 1:
        return None
    got = f"FARM_GPUS: got {gpus}"
    heads = model.parts["transformer"]["num_attention_heads"]
    if heads % gpus:
        divisors = ", ".join(str(each) for each in range(1, heads + 1) if heads % each == 0)
        return f"{got}; {model.name} has {heads} attention heads; allowed: {divisors}"
    device = device_of(settings)
    if settings.device == "cpu":
        return None
    if device not in ("cuda", "cpu"):
        return (
            f"{got} and FARM_DEVICE={device}; allowed: FARM_DEVICE auto, cuda or cpu "
            "(CUDA_VISIBLE_DEVICES chooses cards)"
        )
    import torch

    found = torch.cuda.device_count()
    if found < gpus:
        allowed = f"1 to {found}" if found else "1, or more with FARM_DEVICE=cpu"
        return f"{got}; torch finds {found} GPUs on this machine; allowed: {allowed}"
    return None
