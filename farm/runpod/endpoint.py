"""A serverless endpoint as its file describes it, and the bodies that create and update it.

The file has the names of Runpod's REST API, with units. It holds no secret: variables of the
workers that are secret name a variable of this process, `{"$env": "S3_SECRET_KEY"}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from farm.errors import InvalidInput, did_you_mean, shorten
from farm.job.files import read_object
from farm.settings import PREFIX, Settings
from farm.validation import as_json, invalid_input

SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
SECRET_URL = re.compile(r"://[^/\s]*:[^/\s]*@")
RUNPOD_SECRET = re.compile(r"\{\{ ?RUNPOD_SECRET_\w+ ?\}\}")
"""A value that Runpod replaces by a secret which the account keeps."""

CudaVersion = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Port = Annotated[str, Field(pattern=r"^[0-9]{1,5}/(http|tcp)$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Gpu(_Part):
    """Which GPUs the workers have."""

    pools: list[Annotated[str, Field(pattern="^[A-Z0-9]+(_[A-Z0-9]+)*$")]] = Field(min_length=1)
    excluded_types: list[str] = []
    count: int = Field(default=1, ge=1)
    min_cuda_version: CudaVersion | None = None
    allowed_cuda_versions: list[CudaVersion] = []


class Workers(_Part):
    min: int = Field(default=0, ge=0)
    max: int = Field(default=3, ge=0)
    idle_timeout_s: int | None = Field(default=None, ge=1, le=3600)


class QueueDelay(_Part):
    """More workers while a job waits longer than this."""

    type: Literal["QUEUE_DELAY"]
    queue_delay_s: float = Field(ge=0.5)


class RequestCount(_Part):
    """One worker for this many jobs."""

    type: Literal["REQUEST_COUNT"]
    request_count: int = Field(ge=1)


class Reference(BaseModel):
    """The value of a variable of this process."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    variable: str = Field(alias="$env", min_length=1)


class EndpointFile(_Part):
    """What the file leaves open has Runpod's default, or stays as it is in an update."""

    name: str = Field(min_length=1, max_length=200, description="name in Runpod's console")
    image: str = Field(
        pattern=r"^\S+$", description="image of the workers, with its tag and without blanks"
    )
    gpu: Gpu = Field(
        description="pools such as ADA_48_PRO, the count for each worker, and CUDA versions"
    )
    workers: Workers = Field(default=Workers(), description="min, max and idle_timeout_s")
    scaling: Annotated[QueueDelay | RequestCount, Field(discriminator="type")] = Field(
        description="type QUEUE_DELAY with queue_delay_s, or REQUEST_COUNT with request_count"
    )
    timeout_s: int = Field(
        ge=5, le=604_800, description="longest run of a job in seconds, 5 to 604800"
    )
    flashboot: Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"] = Field(
        default="OFF", description="OFF, FLASHBOOT or PRIORITY_FLASHBOOT"
    )
    network_volumes: list[Identifier] = Field(default=[], description="ids of network volumes")
    data_center_ids: list[Identifier] = Field(
        default=[], description="data centers, such as EU-RO-1; empty = any"
    )
    env: dict[str, str | Reference] = Field(
        default={},
        repr=False,
        description='variables of the workers: texts, or {"$env": "NAME"} for one of this process',
    )
    disk_gb: int = Field(default=20, ge=1, description="disk of a worker in GB")
    args: str = Field(default="", description="arguments of the image's command")
    ports: list[Port] = Field(default=[], description="ports such as 8888/http")
    registry: Identifier | None = Field(
        default=None, description="id of the credential for a private registry"
    )

    @field_validator("env", mode="before")
    @classmethod
    def _check_env(cls, env: Any) -> Any:
        """Raises InvalidInput itself: pydantic's own errors could not name a variable."""
        for name, value in env.items() if isinstance(env, dict) else ():
            _check_variable(name, value)
        return env

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.workers.min > self.workers.max:
            raise _disagreement("workers.min", f"workers.max is {self.workers.max}")
        if self.scaling.type == "REQUEST_COUNT" and self.workers.idle_timeout_s is not None:
            raise _disagreement(
                "workers.idle_timeout_s", "Runpod takes none with scaling by REQUEST_COUNT"
            )
        if self.gpu.min_cuda_version and self.gpu.allowed_cuda_versions:
            raise _disagreement(
                "gpu.min_cuda_version", "Runpod takes either it or gpu.allowed_cuda_versions"
            )
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The endpoint in a JSON file; InvalidInput for anything else."""
        try:
            return cls.model_validate(read_object(path))
        except ValidationError as error:
            raise invalid_input(error, cls) from error

    @property
    def literals(self) -> set[str]:
        """The variables of the workers whose values are in the file."""
        return {name for name, value in self.env.items() if isinstance(value, str)}

    def create_body(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """What POST /serverless takes; InvalidInput if `environ` lacks what is referred to."""
        body = self.update_body(environ)
        gpu = body["gpu"]
        for name in ("minCudaVersion", "allowedCudaVersions", "excludedTypes"):
            if not gpu[name]:
                del gpu[name]
        return {"type": "QUEUE", **body}

    def update_body(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """What PATCH /serverless/ID takes: what the file names, of `gpu` and `env` the whole.

        Raises as `create_body`.
        """
        given = self.model_dump(exclude_unset=True)
        given["gpu"] = {
            **self.gpu.model_dump(),
            "min_cuda_version": self.gpu.min_cuda_version or "",
        }
        if "env" in given:
            given["env"] = {
                name: _resolved(name, value, environ) for name, value in self.env.items()
            }
        return dict(_as_runpod(given))

    def check_catalog(self, gpus: list[dict[str, Any]]) -> None:
        """Raises InvalidInput for a pool, or an excluded GPU, that Runpod's catalog does not have.

        Runpod itself would accept an unknown exclusion, which then excludes nothing.
        """
        pools = sorted({gpu["pool"] for gpu in gpus if gpu.get("pool")})
        for pool in self.gpu.pools:
            if pool not in pools:
                raise _unknown("gpu.pools", pool, pools)
        types = sorted(gpu["id"] for gpu in gpus if gpu.get("pool") in self.gpu.pools)
        for excluded in self.gpu.excluded_types:
            if excluded not in types:
                raise _unknown("gpu.excluded_types", excluded, types)


def _check_variable(name: str, value: Any) -> None:
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        raise InvalidInput(f"env: {shorten(repr(name))} cannot be the name of a variable")
    if not isinstance(value, str) and not _is_reference(value):
        shown = "a secret, which is not shown"
        if not _holds_secret(name, str(value)):
            shown = shorten(as_json(value))
        raise InvalidInput(f'env.{name}: got {shown}; allowed: a text, or {{"$env": NAME}}')
    if isinstance(value, str) and _holds_secret(name, value):
        raise InvalidInput(f'env.{name}: it is secret; the file has {{"$env": NAME}} instead')
    setting = name.removeprefix(PREFIX).lower()
    if name.startswith(PREFIX) and setting not in Settings.model_fields:
        hint = did_you_mean(setting.upper(), map(str.upper, Settings.model_fields), prefix=PREFIX)
        raise InvalidInput(f"env.{name}: there is no such setting{hint}")


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"$env"} and isinstance(value["$env"], str)


def _holds_secret(name: str, value: str) -> bool:
    is_secret = SECRET_NAME.search(name) or SECRET_URL.search(value)
    return bool(is_secret) and not RUNPOD_SECRET.fullmatch(value)


def _resolved(name: str, value: str | Reference, environ: Mapping[str, str]) -> str:
    if isinstance(value, str):
        return value
    if not environ.get(value.variable):
        raise InvalidInput(f"env.{name}: {value.variable} is not set; allowed: a value of it")
    return environ[value.variable]


def _as_runpod(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields under Runpod's names; the one in milliseconds there is `timeout`."""
    for name, value in given.items():
        if name == "env":
            yield name, value
        elif name == "timeout_s":
            yield "timeout", 1000 * value
        else:
            short = re.sub("_(s|gb)$", "", name)
            renamed = re.sub("_([a-z])", lambda match: match[1].upper(), short)
            yield renamed, dict(_as_runpod(value)) if isinstance(value, dict) else value


def _unknown(field: str, value: str, known: list[str]) -> InvalidInput:
    return InvalidInput(
        f"{field}: got {value!r}; Runpod has {', '.join(known)}{did_you_mean(value, known)}"
    )


def _disagreement(field: str, reason: str) -> PydanticCustomError:
    return PydanticCustomError("disagreement", "{reason}", {"field": field, "reason": reason})
