"""The farm's settings: one frozen table, read once from the environment and passed in."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from errno import EPERM
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from farm.caller import CallerName
from farm.errors import FarmUnreachable, InvalidInput
from farm.net.address import ListenAddress
from farm.net.signing import decode_secret
from farm.presets import PRESETS, preset
from farm.validation import invalid_input

PREFIX = "FARM_"

UNPREFIXED = {
    "RUNPOD_API_KEY": "runpod_api_key",
    "RUNPOD_ENDPOINT_ID": "runpod_endpoint_id",
    "RUNPOD_ENDPOINT_BASE_URL": "runpod_url",
    "S3_ENDPOINT": "s3_endpoint",
    "S3_REGION": "s3_region",
    "S3_ACCESS_KEY": "s3_access_key",
    "S3_SECRET_KEY": "s3_secret_key",
    "S3_PUBLIC_BASE": "s3_public_base",
}
"""Variables without a prefix, as existing deployments set them; FARM_ variables override them."""

REDIS = ("redis://", "rediss://")
RABBITMQ = ("amqp://", "amqps://")
"""How the URLs of a broker begin."""

BUCKET = "S3_BUCKET"
"""Becomes `store_url` together with both keys, since other programs use it too."""

MAX_METRICS_PORT = 65_533
"""`farm up` gives the next ports to its two workers."""


def _check_secret(value: str) -> str:
    decode_secret(value)
    return value


def _check_ports(value: str) -> str:
    is_written_so = re.fullmatch(r"\d{1,5}(-\d{1,5})?", value)
    if not is_written_so or not _port_range(value):
        raise ValueError("it is no port, and no range of ports such as 8000-8999")
    return value


def _check_preset(value: str) -> str:
    try:
        return preset(value).name
    except InvalidInput as error:
        raise ValueError(error.message) from error


PresetName = Annotated[str, AfterValidator(_check_preset)]


def _port_range(text: str) -> range:
    """The ports from the first to the last one of `8000-8999`, or the one of `80`."""
    first, _, last = text.partition("-")
    return range(max(1, int(first)), min(65_535, int(last or first)) + 1)


class Settings(BaseModel):
    """Each field is an environment variable: `lease_s` is FARM_LEASE_S."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    name: str = Field(
        "farm",
        pattern="^[a-z0-9-]{1,63}$",
        description=(
            "name of the farm, in front of its keys in Redis, so that several farms can share one: "
            "a-z, 0-9 and -"
        ),
    )
    home: Path = Field(
        Path("~/.infinitetalk-farm"),
        description="folder of the local broker, store, weights and logs",
    )
    caller: CallerName | None = Field(
        None,
        description=(
            "whose jobs this process submits, from Python or the command line; unset = the name "
            "of its user"
        ),
    )
    high_priority_callers: tuple[CallerName, ...] | None = Field(
        None,
        description=(
            "callers whose jobs may have priority high, comma-separated; unset = all, empty = none"
        ),
    )
    max_live_jobs: int | None = Field(
        10_000, ge=0, description="jobs of one caller that have not ended; empty = any number"
    )
    max_gpu_s_per_day: float | None = Field(
        None,
        ge=0,
        description=(
            "GPU seconds of one caller on one day (UTC): used, and estimated for jobs that have "
            "not ended; unset = any number"
        ),
    )
    max_stored_bytes: int | None = Field(
        None,
        ge=0,
        description="bytes of one caller's uploads and results in the store; unset = any number",
    )
    broker_url: str | None = Field(
        None,
        repr=False,
        description=(
            "redis://, rediss://, amqp:// or amqps:// URL of the broker (Redis, Valkey or "
            "RabbitMQ), or for clients runpod://ENDPOINT_ID; unset = the broker started by "
            "`farm up`"
        ),
    )
    registry_url: str | None = Field(
        None,
        repr=False,
        description=(
            "redis:// or rediss:// URL of the registry (Redis or Valkey); unset = the broker's, "
            "unless that is RabbitMQ"
        ),
    )
    broker_ca: Path | None = Field(
        None,
        description=(
            "PEM file with the CA certificates of broker and registry; unset = the public CAs"
        ),
    )
    broker_api: str | None = Field(
        None,
        pattern="^https?://",
        repr=False,
        description=(
            "http:// or https:// URL of RabbitMQ's management API, with USER:PASSWORD@; unset = "
            "its alarms, its memory and messages in hand are not known"
        ),
    )
    store_url: str | None = Field(
        None, description="object store: file:///folder or s3://bucket/prefix; unset = {home}/store"
    )
    s3_endpoint: str = Field(
        "https://s3.amazonaws.com", description="URL of the S3 service behind an s3:// store"
    )
    s3_region: str = Field(
        "us-east-1",
        pattern="^[A-Za-z0-9_-]{1,63}$",
        description="region of the bucket; many services have only this one",
    )
    s3_access_key: str | None = Field(
        None, repr=False, description="access key id for the S3 service"
    )
    s3_secret_key: str | None = Field(
        None, repr=False, description="secret access key for the S3 service; never logged"
    )
    s3_path_style: bool | None = Field(
        None,
        description=(
            "true: bucket in the URL's path, false: in the host name; unset = host name at "
            "Amazon, else path"
        ),
    )
    s3_public_base: str | None = Field(
        None,
        description=(
            "URL under which callers reach the S3 service, used in results; unset = "
            "FARM_S3_ENDPOINT"
        ),
    )
    s3_link_s: int = Field(
        604_800,
        ge=1,
        le=604_800,
        description="lifetime of a result's signed URL in seconds; 1 to 604800, one week",
    )
    s3_ca: Path | None = Field(
        None,
        description="PEM file with the CA certificates of the S3 service; unset = the public CAs",
    )
    store_retry_s: float = Field(
        30,
        ge=0,
        description=(
            "seconds for which a failing or unresponsive store is retried before the step fails"
        ),
    )
    weights: Path | None = Field(
        None, description="folder with one subfolder of weights per preset; unset = {home}/weights"
    )
    presets: tuple[PresetName, ...] = Field(
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
        "auto", description="torch device of gpu workers; auto = cuda if available, else cpu"
    )
    attention: str = Field(
        "auto",
        description=(
            "attention kernel: flash_4, cudnn_fp8 (8 bits) or a name of diffusers; auto = the "
            "fastest exact kernel on the device"
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
            "quantization of the linears for jobs that do not choose one: int8 or fp8; unset = none"
        ),
    )
    offload: Literal["off", "allowed", "on"] = Field(
        "off",
        description=(
            "streaming of the model from host memory: off, allowed = if a job asks, on = for "
            "every job"
        ),
    )
    skip_last_step: bool = Field(
        False,
        description="true: skip the last denoise step of every job, which changes very little",
    )
    cpu_concurrency: int = Field(2, ge=1, description="processes per cpu worker")
    download_concurrency: int = Field(
        64,
        ge=0,
        description=(
            "downloads at once per cpu worker, in threads of one process more; 0 = none, if "
            "`farm worker downloads` runs elsewhere"
        ),
    )
    downloads_per_host: int = Field(
        8, ge=1, description="downloads at once per worker from one host; further jobs wait"
    )
    lease_s: float = Field(
        15,
        gt=0,
        description=(
            "seconds without renewal after which a step's lease expires and another worker "
            "may take the step"
        ),
    )
    reap_every_s: float = Field(5, gt=0, description="seconds between two runs of the reaper")
    redispatch_after_s: float = Field(
        3600,
        gt=0,
        description=(
            "seconds between two searches of all queues for lost messages; a message that "
            "waits is never sent again. Also after how long a postponed step is dispatched, at "
            "the latest"
        ),
    )
    max_attempts: int = Field(3, ge=1, description="attempts at one step before its job fails")
    step_timeout_s: float = Field(
        3600, gt=0, description="time limit of one step (for generate, one chunk) in seconds"
    )
    keep_intermediates_s: float = Field(
        86400,
        ge=0,
        description=(
            "seconds after a job's end from which `farm gc` removes everything but its video"
        ),
    )
    keep_jobs_s: float | None = Field(
        30 * 86_400,
        ge=0,
        description=(
            "seconds after a job's end from which `farm gc` removes its video, events and record; "
            "empty = never"
        ),
    )
    keep_shared_s: float | None = Field(
        7 * 86_400,
        ge=0,
        description=(
            "seconds after which `farm gc` removes uploads, and features shared between jobs; one "
            "that is used in the second half of this time is stored anew; empty = never"
        ),
    )
    grace_s: float = Field(
        20,
        gt=0,
        description=(
            "seconds after SIGTERM for running steps to stop cleanly; after that they are "
            "interrupted"
        ),
    )
    idle_exit_s: float | None = Field(
        None,
        gt=0,
        description=(
            "seconds without a step after which a worker drains and exits with status 0, for "
            "autoscalers that start one for each job; unset = never"
        ),
    )
    health_folder: Path | None = Field(
        None,
        description=(
            "folder of one worker's health files, which `farm health` reads; unset = one for each "
            "worker in {home}/run/health/HOST"
        ),
    )
    remote_control: bool = Field(
        False,
        description=(
            "true: workers obey Celery's remote control, as Flower's buttons need; `farm up "
            "--flower` sets it"
        ),
    )
    metrics_address: str | None = Field(
        None,
        pattern=r"^((([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}|\[[0-9A-Fa-f:]+\]):)?[0-9]{1,5}$",
        description=(
            "PORT or HOST:PORT of a process's Prometheus endpoint, 127.0.0.1 without a host; "
            "unset = none"
        ),
    )
    flower_auth: str | None = Field(
        None,
        repr=False,
        description=(
            "USER:PASSWORD of each login of Flower, comma-separated; required for listening beyond "
            "loopback; unset = one in {home}/run/flower"
        ),
    )
    decode_timeout_s: float = Field(
        120,
        gt=0,
        description="seconds that the decoding of one file may take before its job fails",
    )
    decode_memory_mb: int = Field(
        4000,
        ge=500,
        description="megabytes of address space that the decoding of one file may take",
    )
    max_visual_bytes: int = Field(200_000_000, ge=1, description="largest image or video in bytes")
    max_audio_bytes: int = Field(50_000_000, ge=1, description="largest audio file in bytes")
    max_audio_s: float = Field(
        3600, gt=0, description="longest recording or synthesised speech in seconds"
    )
    max_tts_characters: int = Field(
        20_000, ge=1, le=100_000, description="longest text to speak in characters; 1 to 100000"
    )
    max_tts_turns: int = Field(500, ge=2, description="most turns in a text to speak")
    tts_timeout_s: float = Field(
        300, gt=0, description="time limit of synthesising the speech of one job in seconds"
    )
    tts_memory_mb: int = Field(
        8000,
        ge=500,
        description="megabytes of address space that synthesising the speech of one job may take",
    )
    max_request_bytes: int = Field(
        262_144,
        ge=1,
        description="largest request in bytes, as JSON without the files that it contains",
    )
    fetch_timeout_s: float = Field(60, gt=0, description="time limit of one download in seconds")
    fetch_min_bytes_per_s: float = Field(
        50_000,
        ge=0,
        description="lowest speed of a download in bytes per second; a slower one fails; 0 = any",
    )
    fetch_speed_window_s: float = Field(
        20, gt=0, description="seconds over which the speed of a download is averaged"
    )
    fetch_allow: tuple[IPv4Network | IPv6Network, ...] = Field(
        (),
        description=(
            "private networks that URLs may point into, comma-separated, for example 10.1.0.0/16"
        ),
    )
    fetch_ports: tuple[Annotated[str, AfterValidator(_check_ports)], ...] = Field(
        ("80", "443", "1024-65535"),
        description=(
            "ports and ranges of ports that URLs may point to, comma-separated, for example "
            "80,443,8000-8999"
        ),
    )
    webhook_secret: tuple[Annotated[str, AfterValidator(_check_secret)], ...] = Field(
        (),
        repr=False,
        description=(
            "secret of webhooks, whsec_..., from which that of each receiver is derived (`farm "
            "webhook-secret`); old,new during rotation; unset = webhooks are disabled"
        ),
    )
    webhook_timeout_s: float = Field(
        10, gt=0, description="time limit of one webhook call in seconds"
    )
    webhook_calls_per_minute: int = Field(
        300,
        ge=1,
        description=(
            "most webhook calls of the whole farm to one host in a minute; further ones are delayed"
        ),
    )
    webhook_retry_delays_s: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (5, 30, 120, 600, 3600, 10_800, 28_800, 43_200),
        description=(
            "seconds before each retry of a failed webhook call, comma-separated; then the "
            "farm gives up"
        ),
    )
    webhook_ca: Path | None = Field(
        None,
        description=(
            "PEM file with the CA certificates of webhook receivers; unset = the public CAs"
        ),
    )
    output_buckets: tuple[
        Annotated[str, Field(pattern="^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")], ...
    ] = Field(
        (),
        description=(
            "buckets of the S3 service to which jobs may have results copied, comma-separated"
        ),
    )
    output_folder: Path | None = Field(
        None,
        description=(
            "folder on every cpu worker to which jobs may have results copied; unset = none"
        ),
    )
    output_inline_bytes: int = Field(
        1_000_000,
        ge=0,
        description="largest video in bytes that a result may contain as base64; 0 = none",
    )
    bridge_slots: int = Field(
        10,
        ge=1,
        le=500,
        description="chunks in flight per bridge; as many as its endpoint has workers",
    )
    bridge_overflow_wait_s: float | None = Field(
        None,
        ge=0,
        description=(
            "predicted wait for the farm's own GPUs in seconds above which chunks overflow to the "
            "endpoint; unset = only while the farm has no GPU of its own"
        ),
    )
    bridge_gpu_s_per_hour: float | None = Field(
        None, ge=0, description="GPU seconds of the endpoint per hour; unset = any number"
    )
    bridge_cost_per_hour: float | None = Field(
        None,
        ge=0,
        description=(
            "money per hour at FARM_BRIDGE_PRICE_PER_S, in its currency; unset = any amount"
        ),
    )
    bridge_price_per_s: float | None = Field(
        None, gt=0, description="price of one second of a worker of the endpoint"
    )
    bridge_queue_s: float = Field(
        900,
        ge=10,
        description="seconds for which a chunk may wait for a worker of the endpoint",
    )
    runpod_api_key: str | None = Field(
        None, repr=False, description="key of the Runpod account, or of a gateway; never logged"
    )
    runpod_endpoint_id: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        None, description="serverless endpoint on which a bridge generates chunks"
    )
    runpod_url: str = Field(
        "https://api.runpod.ai/v2",
        pattern="^https?://",
        description="URL of Runpod's queue API, or of a gateway",
    )
    runpod_concurrency: int = Field(
        2,
        ge=1,
        le=8,
        description=(
            "jobs that a serverless worker takes at once; one has the GPU, the others fetch their "
            "inputs and wait, which counts as their time"
        ),
    )
    runpod_streaming: bool = Field(
        False,
        description=(
            "true: a serverless worker streams each finished chunk; all workers of an endpoint "
            "do, or none does"
        ),
    )
    runpod_execution_s: float | None = Field(
        None,
        gt=0,
        description=(
            "the endpoint's execution timeout in seconds, which Runpod does not tell its workers; "
            "unset = none is known"
        ),
    )
    runpod_rest_url: str = Field(
        "https://api.runpod.io/v2",
        pattern="^https?://",
        description="URL of Runpod's REST API, with which `farm endpoint` works",
    )
    ui_auth: str | None = Field(
        None,
        repr=False,
        description=(
            "USER:PASSWORD of each login of `farm ui`, comma-separated, a user being the caller of "
            "the login's jobs; required for listening beyond loopback"
        ),
    )
    ui_hosts: tuple[Annotated[str, Field(pattern="^[A-Za-z0-9.-]{1,253}$")], ...] = Field(
        (),
        description=(
            "host names by which `farm ui` is reached through a proxy, without ports, "
            "comma-separated, for example farm.example.com"
        ),
    )
    ui_trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        (),
        description=(
            "addresses of proxies whose X-Forwarded-For `farm ui` believes, comma-separated; "
            "logins are throttled by the client's address"
        ),
    )
    ui_upload_bytes: int = Field(
        2_000_000_000,
        ge=1,
        description=(
            "largest total size in bytes of the uploads that `farm ui` keeps; the oldest are "
            "deleted to make room"
        ),
    )

    @field_validator(
        "presets",
        "high_priority_callers",
        "fetch_allow",
        "fetch_ports",
        "webhook_secret",
        "webhook_retry_delays_s",
        "output_buckets",
        "ui_hosts",
        "ui_trusted_proxies",
        mode="before",
    )
    @classmethod
    def _split_list(cls, value: object) -> object:
        if isinstance(value, str):
            return value.replace(",", " ").split()
        return value

    @field_validator("max_live_jobs", "keep_jobs_s", "keep_shared_s", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("loras", mode="before")
    @classmethod
    def _parse_loras(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(name.strip() and file.strip() for name, _, file in pairs):
            raise ValueError("every adapter is NAME=FILE")
        return [(name.strip(), Path(file.strip()).expanduser()) for name, _, file in pairs]

    @field_validator("broker_url", "registry_url", "broker_api")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        try:
            _ = urlsplit(value or "").port
        # Not chained: the message quotes the port, which for a password with a / is part of it.
        except ValueError:
            raise ValueError(
                "it is no URL; a password has %2F for /, %3F for ? and %23 for #"
            ) from None
        if "ssl_cert_reqs=CERT_" in (value or ""):
            raise ValueError("ssl_cert_reqs is one of required, optional and none, in lower case")
        return value

    @field_validator("registry_url")
    @classmethod
    def _check_registry_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(REDIS):
            scheme, separator, _ = value.partition("://")  # behind it there may be a password
            got = f"{scheme}://" if separator else "no URL"
            raise ValueError(f"{got} is no registry, only Redis and Valkey can be one")
        return value

    @field_validator("metrics_address")
    @classmethod
    def _check_metrics_port(cls, value: str | None) -> str | None:
        if value is None:
            return None
        port = int(value.rpartition(":")[2])
        if not 0 < port <= MAX_METRICS_PORT:
            raise ValueError(f"the port is not one of 1 to {MAX_METRICS_PORT}")
        return value

    @property
    def key_prefix(self) -> str:
        """What all keys and channels of this farm in Redis begin with."""
        return f"{self.name}:"

    @property
    def fetch_port_ranges(self) -> tuple[range, ...]:
        return tuple(map(_port_range, self.fetch_ports))

    @property
    def metrics_listen_address(self) -> ListenAddress | None:
        """Where this process serves metrics; None if it serves none."""
        if self.metrics_address is None:
            return None
        host, _, port = self.metrics_address.rpartition(":")
        return ListenAddress(host.strip("[]") or "127.0.0.1", int(port))

    @property
    def folder(self) -> Path:
        """`home` with ~ expanded."""
        return self.home.expanduser().resolve()

    def make_folder(self) -> Path:
        """`folder`, created if it is missing, which only its owner can enter from now on.

        Prompts, uploads and logs lie in it. OSError if it cannot be created, or is shared by all
        users like /tmp; another user's folder is left as it is.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform == "win32":  # its folders have no such modes
            return self.folder
        found = self.folder.stat()
        if found.st_mode & stat.S_ISVTX:
            raise PermissionError(EPERM, "all users of the machine share it")
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            self.folder.chmod(0o700)
        return self.folder

    @property
    def runpod_key(self) -> str:
        """The key of the Runpod account, or of a gateway; InvalidInput if there is none."""
        if self.runpod_api_key:
            return self.runpod_api_key
        allowed = type(self).model_fields["runpod_api_key"].description
        raise InvalidInput(f"RUNPOD_API_KEY: it is not set; allowed: {allowed}")

    @property
    def weights_folder(self) -> Path:
        if self.weights is None:
            return self.folder / "weights"
        return self.weights.expanduser().resolve()

    @property
    def digests_folder(self) -> Path:
        """Where the digests of weights are remembered."""
        return self.folder / "digests"

    @property
    def attention_file(self) -> Path:
        """Where the fastest attention kernel of each device is remembered."""
        return self.folder / "attention.json"

    @property
    def store_address(self) -> str:
        return self.store_url or (self.folder / "store").as_uri()

    @property
    def broker_url_file(self) -> Path:
        """The file to which `farm up` writes the URL of its broker."""
        return self.folder / "run" / "broker"

    @property
    def broker_address(self) -> str:
        """The broker's URL; FarmUnreachable if none is set and no farm is up in `home`."""
        if self.broker_url:
            return self.broker_url
        if self.broker_url_file.is_file():
            return self.broker_url_file.read_text().strip()
        raise FarmUnreachable(
            f"no farm is up in {self.folder}; start one with `farm up`, or set FARM_BROKER_URL"
        )

    @property
    def registry_address(self) -> str:
        """The registry's URL: the broker's unless another is set.

        InvalidInput if that is RabbitMQ, which keeps no records; FarmUnreachable as
        `broker_address` raises it.
        """
        if self.registry_url:
            return self.registry_url
        if self.broker_address.startswith(RABBITMQ):
            raise InvalidInput(
                "FARM_REGISTRY_URL: it is not set, and RabbitMQ (FARM_BROKER_URL) cannot be the "
                "registry; allowed: redis:// or rediss:// URL of a Redis or Valkey"
            )
        return self.broker_address

    @property
    def has_own_registry(self) -> bool:
        """Whether the registry is elsewhere than the broker."""
        return self.registry_address != self.broker_address

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Settings from FARM_ variables, and those without the prefix.

        Raises InvalidInput for one that is invalid or unknown, by the name under which it was set.
        """
        given = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in environ.items()
            if name.startswith(PREFIX)
        }
        try:
            return cls.model_validate({**_from_unprefixed(environ), **given})
        except ValidationError as error:
            message = invalid_input(error, cls, prefix=PREFIX).message
            raise InvalidInput(_as_set(message, environ)) from error


def _from_unprefixed(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings from variables without a prefix."""
    given = {field: environ[name] for name, field in UNPREFIXED.items() if name in environ}
    if BUCKET in environ and {"s3_access_key", "s3_secret_key"} <= given.keys():
        given["store_url"] = f"s3://{environ[BUCKET]}"
    return given


def _as_set(message: str, environ: Mapping[str, str]) -> str:
    """An error about FARM_X that begins with the variable by which X was set."""
    variable, colon, rest = message.partition(":")
    for name, field in UNPREFIXED.items():
        if variable == PREFIX + field.upper() and name in environ and variable not in environ:
            variable = name
    return variable + colon + rest
