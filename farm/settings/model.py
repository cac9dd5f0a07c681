"""What the gpu workers serve, and how it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from farm.errors import did_you_mean
from farm.presets import PRESETS
from farm.settings.group import COMMA_SEPARATED, SettingsGroup


def _check_preset(value: str) -> str:
    if value not in PRESETS:
        hint = did_you_mean(value, PRESETS)
        raise PydanticCustomError("preset", "there is no such model", {"hint": hint})
    return value


PresetName = Annotated[str, AfterValidator(_check_preset)]


class Model(SettingsGroup):
    title: ClassVar = "Model"

    weights: Path | None = Field(
        None, description="folder with one subfolder of weights per preset; unset = {home}/weights"
    )
    presets: Annotated[tuple[PresetName, ...], COMMA_SEPARATED] = Field(
        ("miniature",),
        min_length=1,
        description=(
            "models that the workers serve, comma-separated; the first is the default of jobs "
            f"that name none; {', '.join(PRESETS)}"
        ),
    )
    unserved_models: Literal["refuse", "wait"] = Field(
        "refuse",
        description=(
            "a job for a model that no worker serves: refuse it at submission, or let it wait for "
            "a worker that does"
        ),
    )
    device: str = Field(
        "auto",
        pattern="^(auto|cpu|cuda(:[0-9]{1,3})?)$",
        description=(
            "torch device of gpu workers: cpu, cuda or one card such as cuda:1; auto = cuda if "
            "available, else cpu"
        ),
    )
    gpus: int = Field(
        1,
        ge=1,
        description=(
            "cards of one gpu worker, which make each chunk together; a number that divides the "
            "model's attention heads"
        ),
    )
    attention: str = Field(
        "auto",
        description=(
            "attention kernel: flash_4, cudnn_fp8 (8 bits) or a name of diffusers; auto = the "
            "fastest exact kernel on the device, which jobs of quality best get in any case"
        ),
    )
    fold_audio: bool = Field(
        False,
        description=(
            "true: fold the projections of the audio attention into its keys and values for one "
            "speaker; faster, takes 22 GB at full size, rounds once more"
        ),
    )
    loras: tuple[tuple[str, Path], ...] = Field(
        (), description="LoRA adapters that jobs may use: NAME=FILE, comma-separated"
    )
    quant: Literal["int8", "fp8"] | None = Field(
        None,
        description=(
            "8 bits for the linears of jobs whose quality and quant leave it open: int8 or fp8; "
            "unset = none"
        ),
    )
    offload: Literal["off", "allowed", "on"] = Field(
        "off",
        description=(
            "streaming of the model from host memory: off, allowed = if a job asks, on = for "
            "every job"
        ),
    )
    gpu_price_per_h: float | None = Field(
        None,
        gt=0,
        description=(
            "price of one GPU for an hour, in any currency; for estimates, `max_cost` of jobs and "
            "`farm bench`"
        ),
    )
    skip_last_step: bool = Field(
        False,
        description=(
            "true: skip the last denoise step of jobs, which changes very little; not of those of "
            "quality best"
        ),
    )

    @field_validator("loras", mode="before")
    @classmethod
    def _parse_loras(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(name.strip() and file.strip() for name, _, file in pairs):
            raise ValueError("every adapter is NAME=FILE")
        return [(name.strip(), Path(file.strip()).expanduser()) for name, _, file in pairs]
