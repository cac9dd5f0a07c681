"""What a gpu worker needs of its machine, checked before it starts: in a container its first job
would be the first to notice.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.presets import preset
from farm.settings import Settings
from farm.steps.gpus import gpus_fault


def check_gpu_start(settings: Settings) -> None:
    """Raises PipelineLoadFailed for weights that are incomplete, and InvalidInput for a device that
    torch cannot use or too few of them.
    """
    check_weights(settings)
    driver = driver_cuda()
    if settings.device.startswith("cuda") or (settings.device == "auto" and driver):
        check_device(settings.device, driver)
    for model in map(preset, settings.presets):
        if fault := gpus_fault(settings, model):
            raise InvalidInput(fault)


def check_weights(settings: Settings) -> None:
    """Compares the weights of each preset with its model, from their headers."""
    for model in map(preset, settings.presets):
        if model.shipped:  # they cannot be incomplete, and the check imports torch
            continue
        from farm.model.weights.check import check

        folder = model.folder(settings.weights_folder)
        try:
            check(folder, model)
        except PipelineLoadFailed as error:
            raise PipelineLoadFailed(
                f"FARM_WEIGHTS: {model.name} is incomplete: {error.message}"
            ) from error


def check_device(device: str, driver: tuple[int, int] | None) -> None:
    """Raises InvalidInput if torch cannot use a CUDA device with this driver."""
    import torch

    if device == "auto" and torch.version.cuda is None:
        return  # a CPU build takes the CPU, whatever driver there is
    reason = driver_fault(driver, torch.version.cuda)
    if reason is None and not torch.cuda.is_available():
        reason = "torch finds no GPU"
    if reason:
        raise InvalidInput(
            f"FARM_DEVICE: got {device!r}; {reason} (torch {torch.__version__}); "
            "allowed: cpu, or cuda with a GPU and a driver that torch can use"
        )


def driver_fault(driver: tuple[int, int] | None, needed: str | None) -> str | None:
    """Why a driver cannot run torch's CUDA, of the version `needed`; None if it can.

    A driver runs every minor version of its major one, and all before.
    """
    if needed is None:
        return "this torch is a CPU build"
    if driver is None:
        return "there is no NVIDIA driver here (start the container with its GPU)"
    if driver[0] < int(needed.partition(".")[0]):
        return (
            f"its NVIDIA driver is too old: it runs CUDA {driver[0]}.{driver[1]}, and torch needs "
            f"{needed}; update the driver of the machine"
        )
    return None


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA version that the NVIDIA driver of this machine runs; None without one."""
    version = ctypes.c_int()
    with suppress(OSError, AttributeError):
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)) == 0:
            return version.value // 1000, version.value % 1000 // 10
    return None
