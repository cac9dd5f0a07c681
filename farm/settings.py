"""The farm's settings: one frozen table, read once from the environment and passed in."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from farm.errors import FarmUnreachable
from farm.net.address import Address
from farm.net.signing import decode_secret
from farm.validation import invalid_input

PREFIX = "FARM_"

OLDER = {
    f"S3_{name}": f"s3_{name.lower()}" for name in ("ENDPOINT", "REGION", "ACCESS_KEY", "SECRET_KEY", "PUBLIC_BASE")
}
"""Names that farms before this one used; a FARM_ variable goes before them."""

MOST_PORT = 65_533
"""The highest port that leaves room for those of the workers of `farm up`."""


def _secret(value: str) -> str:
    decode_secret(value)
    return value


class Settings(BaseModel):
    """Each field is the environment variable of its name in capitals after `FARM_`, for example FARM_LEASE_S."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    home: Path = Field(
        Path("~/.infinitetalk-farm"), description="folder of the embedded broker, store, weights and logs"
    )
    broker_url: str | None = Field(
        None,
        repr=False,
        description="redis:// or rediss:// URL of the broker; unset = the broker that `farm up` started",
    )
    store_url: str | None = Field(
        None, description="where goods are kept: file:///folder or s3://bucket/prefix; unset = {home}/store"
    )
    s3_endpoint: str = Field("https://s3.amazonaws.com", description="URL of the S3 service of an s3:// store")
    s3_region: str = Field(
        "us-east-1", pattern="^[A-Za-z0-9_-]{1,63}$", description="region of the bucket; many services have only this"
    )
    s3_access_key: str | None = Field(None, repr=False, description="who the farm is to the S3 service")
    s3_secret_key: str | None = Field(None, repr=False, description="what proves it; never sent, never shown")
    s3_path_style: bool | None = Field(
        None,
        description="true: URLs name the bucket in the path, false: in the host; unset = host at Amazon, else path",
    )
    s3_public_base: str | None = Field(
        None, description="URL by which callers reach the S3 service, put into results; unset = FARM_S3_ENDPOINT"
    )
    s3_link_s: int = Field(
        604_800, ge=1, le=604_800, description="seconds that a result's URL is good for; 1 to 604800, a week"
    )
    s3_ca: Path | None = Field(
        None, description="PEM file of who vouches for the S3 service's TLS; unset = the usual authorities"
    )
    store_retry_s: float = Field(
        30, ge=0, description="seconds that a store which is silent or takes nothing is asked again before a step fails"
    )
    weights: Path | None = Field(
        None, description="folder that holds one folder of weights per preset; unset = {home}/weights"
    )
    preset: str = Field("miniature", description="the model that gpu workers load")
    device: str = Field("auto", description="torch device of gpu workers; auto = cuda if there is one, else cpu")
    attention: str = Field(
        "auto", description="attention kernel by diffusers' name; auto = the fastest exact one that the device runs"
    )
    loras: tuple[tuple[str, Path], ...] = Field(
        (), description="adapters that jobs may name: NAME=FILE, with commas between"
    )
    quant: Literal["int8", "fp8"] | None = Field(
        None,
        description="how the model's weights are rounded for jobs that do not say: int8 or fp8; unset = not at all",
    )
    quant_activations: bool = Field(
        False, description="true: activations are rounded too where weights are; faster, a little less exact"
    )
    offload: Literal["off", "allowed", "on"] = Field(
        "off", description="streaming the model from host memory: off, allowed = if a job asks, on = for every job"
    )
    skip_last_step: bool = Field(False, description="true: the nearly empty last denoise step of every job is left out")
    cpu_concurrency: int = Field(2, ge=1, description="processes of one cpu worker")
    lease_s: float = Field(
        15, gt=0, description="seconds after which a step whose worker fell silent may be taken over"
    )
    reap_every_s: float = Field(5, gt=0, description="seconds between two looks for steps that nobody works on")
    ring_s: float = Field(
        3600, gt=0, description="seconds that a sent message may wait in its queue before it is sent again"
    )
    max_attempts: int = Field(3, ge=1, description="attempts at one step before its job is given up")
    step_timeout_s: float = Field(3600, gt=0, description="seconds that one step (one chunk, for generate) may take")
    keep_intermediates_s: float = Field(
        86400, ge=0, description="seconds after a job's end from which `farm gc` removes all but its video"
    )
    keep_jobs_s: float | None = Field(
        None,
        ge=0,
        description="seconds after a job's end from which `farm gc` removes its video and record; unset = never",
    )
    grace_s: float = Field(
        20, gt=0, description="seconds after SIGTERM in which a worker stops by itself; then what it does is broken off"
    )
    metrics_address: str | None = Field(
        None,
        pattern=r"^((([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}|\[[0-9A-Fa-f:]+\]):)?[0-9]{1,5}$",
        description="PORT or HOST:PORT of a process's numbers for Prometheus, 127.0.0.1 without a host; unset = none",
    )
    flower_auth: str | None = Field(
        None, repr=False, description="USER:PASSWORD that Flower asks for; it listens beyond loopback only with one"
    )
    max_visual_bytes: int = Field(200_000_000, ge=1, description="largest image or video, in bytes")
    max_sound_bytes: int = Field(50_000_000, ge=1, description="largest sound, in bytes")
    fetch_timeout_s: float = Field(300, gt=0, description="seconds that one download may take in all")
    fetch_allow: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="private networks that URLs may point into, with commas between, for example 10.1.0.0/16"
    )
    webhook_secret: tuple[Annotated[str, AfterValidator(_secret)], ...] = Field(
        (),
        repr=False,
        description="what webhooks are signed with: whsec_..., old,new while one is replaced; unset = no webhooks",
    )
    webhook_timeout_s: float = Field(10, gt=0, description="seconds that one call of a webhook may take in all")
    webhook_pauses_s: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (5, 30, 120, 600, 3600, 10_800, 28_800, 43_200),
        description="seconds between two calls of a webhook that fails, with commas between; then it is given up",
    )
    webhook_ca: Path | None = Field(
        None, description="PEM file of who vouches for the TLS of webhooks; unset = the usual authorities"
    )
    output_buckets: tuple[Annotated[str, Field(pattern="^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")], ...] = Field(
        (), description="buckets of the S3 service that jobs may have their results copied to, with commas between"
    )
    output_folder: Path | None = Field(
        None, description="folder, on every cpu worker, that jobs may have their results copied to; unset = none"
    )
    output_inline_bytes: int = Field(
        1_000_000, ge=0, description="largest video that a result may carry in itself, in bytes; 0 = none"
    )
    ui_auth: str | None = Field(
        None, repr=False, description="USER:PASSWORD that `farm ui` asks for; it listens beyond loopback only with one"
    )

    @field_validator("fetch_allow", "webhook_secret", "webhook_pauses_s", "output_buckets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("loras", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(name.strip() and file.strip() for name, _, file in pairs):
            raise ValueError("every adapter is NAME=FILE")
        return [(name.strip(), Path(file.strip()).expanduser()) for name, _, file in pairs]

    @field_validator("broker_url")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        try:
            _ = urlsplit(value or "").port
        except ValueError:  # its words hold what stands where a port should be: of a password with a / in it, a part
            raise ValueError("it is no URL; a password has %2F for /, %3F for ? and %23 for #") from None
        return value

    @field_validator("metrics_address")
    @classmethod
    def _port(cls, value: str | None) -> str | None:
        if value is not None and not 0 < int(value.rpartition(":")[2]) <= MOST_PORT:
            raise ValueError(f"the port is not one of 1 to {MOST_PORT}")
        return value

    @property
    def metrics_at(self) -> Address | None:
        """Where numbers are told; None if nowhere."""
        if self.metrics_address is None:
            return None
        host, _, port = self.metrics_address.rpartition(":")
        return Address(host.strip("[]") or "127.0.0.1", int(port))

    @property
    def folder(self) -> Path:
        """`home` with ~ expanded."""
        return self.home.expanduser().resolve()

    @property
    def weights_folder(self) -> Path:
        return self.weights.expanduser().resolve() if self.weights else self.folder / "weights"

    @property
    def store_address(self) -> str:
        return self.store_url or (self.folder / "store").as_uri()

    @property
    def broker_note(self) -> Path:
        """The file in which `farm up` leaves the URL of its broker."""
        return self.folder / "run" / "broker"

    @property
    def broker_address(self) -> str:
        """The broker's URL; FarmUnreachable when none is set and none was started."""
        if self.broker_url:
            return self.broker_url
        if self.broker_note.is_file():
            return self.broker_note.read_text().strip()
        raise FarmUnreachable(f"no farm is up in {self.folder}; start one with `farm up`, or set FARM_BROKER_URL")

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Settings from an environment's FARM_ variables; InvalidInput names one that is wrong or unknown."""
        given = {name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
        try:
            return cls.model_validate({**_older(environ), **given})
        except ValidationError as error:
            raise invalid_input(error, cls, prefix=PREFIX) from error


def _older(environ: Mapping[str, str]) -> dict[str, str]:
    """What the environment says by its older names; a bucket without its keys is another program's."""
    given = {field: environ[name] for name, field in OLDER.items() if name in environ}
    if "S3_BUCKET" in environ and {"s3_access_key", "s3_secret_key"} <= given.keys():
        given["store_url"] = f"s3://{environ['S3_BUCKET']}"
    return given
