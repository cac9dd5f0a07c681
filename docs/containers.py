"""What compose.yaml has of the settings: the block that passes them on, and `.env.example`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "compose.yaml"
EXAMPLE = ROOT / ".env.example"
HEADING = """\
# What compose.yaml reads: `make .env` makes .env of it. Written by `python -m docs.generate`."""
BEGIN = "# settings: begin\n"
END = "# settings: end\n"
NO_BREAK = "\xa0"
WIDTH = 100

IN_IMAGE = ("home", "weights", "metrics_address", "health_folder")
"""Settings that the images have, since volumes and ports depend on them."""

IN_COMPOSE = (
    *("broker_url", "store_url", "s3_endpoint", "s3_public_base", "s3_access_key"),
    *("s3_secret_key", "grace_s", "ui_auth", "flower_auth", "webhook_secret", "runpod_api_key"),
    *("ui_upload_bytes", "broker_api"),
)
"""Settings with a value in compose.yaml, and secrets, which go to the services that need them."""

RANDOM = "random"
"""The value of what `make .env` draws."""

LOGIN = "farm:random"
"""The same, as a login."""

CREATED = {
    "REGISTRY_PASSWORD": (RANDOM, "password of the registry"),
    "FARM_S3_ACCESS_KEY": (RANDOM, "access key id for the S3 service"),
    "FARM_S3_SECRET_KEY": (RANDOM, "secret access key for the S3 service"),
    "FARM_UI_AUTH": (LOGIN, "USER:PASSWORD of each login of the page, comma-separated"),
    "FARM_FLOWER_AUTH": (LOGIN, "USER:PASSWORD of each login of Flower, comma-separated"),
    "RABBITMQ_PASSWORD": (RANDOM, "password of the user farm of RabbitMQ"),
    "GRAFANA_PASSWORD": (RANDOM, "password of the user admin of Grafana"),
}
"""Variables that compose.yaml needs: what `make .env` writes for each, and its sentence."""

OPTIONAL = {
    "IMAGE": ("infinitetalk-farm", "name of the farm's images, for instance with a registry"),
    "WEIGHTS": ("weights", "volume, or folder that begins with / or ./, of the weights"),
    "SCRATCH": ("2g", "size of /tmp of cpu, gpu-0, gateway and page; it counts as their memory"),
    "OMP_NUM_THREADS": ("", "threads of a process that computes on the CPU; empty = one a core"),
    "REGISTRY_MEMORY": ("512m", "memory of the registry"),
    "REGISTRY_MAXMEMORY": ("384mb", "what it may hold, about 3/4 of that; more it refuses"),
    "S3_MEMORY": ("1g", "memory of the S3 service"),
    "CPU_MEMORY": ("6g", "memory of the cpu worker"),
    "MINIATURE_MEMORY": ("2g", "memory of the gpu worker that runs the miniature on the CPU"),
    "GPU_MEMORY": ("96g", "memory of a gpu worker"),
    "PAGE_MEMORY": ("3g", "memory of the page; its uploads lie in SCRATCH, which counts"),
    "FARM_UI_UPLOAD_BYTES": ("1000000000", "bytes of uploads that the page keeps"),
    "GATEWAY_MEMORY": ("3g", "memory of the gateway; uploads to it lie in SCRATCH, which counts"),
    "REGISTRY_LISTEN": ("127.0.0.1:6379", "where the registry listens on the host"),
    "S3_LISTEN": ("127.0.0.1:8333", "where the S3 service listens on the host"),
    "GATEWAY_LISTEN": ("127.0.0.1:8000", "where the gateway listens on the host"),
    "PAGE_LISTEN": ("127.0.0.1:7860", "where the page listens on the host"),
    "RABBITMQ_LISTEN": ("127.0.0.1:5672", "where RabbitMQ listens on the host"),
    "RABBITMQ_API_LISTEN": ("127.0.0.1:15672", "where RabbitMQ's management listens on the host"),
    "FLOWER_LISTEN": ("127.0.0.1:5555", "where Flower listens on the host"),
    "PROMETHEUS_LISTEN": ("127.0.0.1:9090", "where Prometheus listens on the host"),
    "GRAFANA_LISTEN": ("127.0.0.1:3000", "where Grafana listens on the host"),
}
"""Further variables of compose.yaml, with default and sentence."""


def compose_file() -> str:
    """compose.yaml with a block of all settings that it passes on unchanged."""
    text = COMPOSE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{_settings_block()}{END}{after}"


def env_example() -> str:
    """Every variable of compose.yaml and of the farm, with its sentence."""
    parts = [HEADING, "\n# --- Needed: `make .env` puts random values here"]
    parts += _lines(CREATED, "{name}={value}")
    parts.append("\n# --- Of compose.yaml, with their defaults")
    parts += _lines(OPTIONAL, "# {name}={value}")
    parts.append("\n# --- Settings of the farm, with their defaults")
    parts += [_setting(name) for name in Settings.model_fields if _is_passed(name)]
    return "\n".join(parts) + "\n"


def _lines(variables: Mapping[str, tuple[str, str]], form: str) -> list[str]:
    return [
        f"{_comment(sentence)}\n{form.format(name=name, value=value)}"
        for name, (value, sentence) in variables.items()
    ]


def _settings_block() -> str:
    names = f"{NO_BREAK}, ".join(f"{_variable(name)}:" for name in _passed_on())
    lines = textwrap.fill(names, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return f"x-settings: &settings {{\n{lines}\n}}\n".replace(NO_BREAK, " ")


def _passed_on() -> list[str]:
    return [name for name in Settings.model_fields if name not in (*IN_IMAGE, *IN_COMPOSE)]


def _is_passed(name: str) -> bool:
    return name not in IN_IMAGE and _variable(name) not in (*CREATED, *OPTIONAL)


def _setting(name: str) -> str:
    info = Settings.model_fields[name]
    return f"{_comment(info.description or '')}\n# {_variable(name)}={_default(info.default)}"


def _default(value: Any) -> str:
    if value in (None, ()):
        return ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _comment(sentence: str) -> str:
    return "\n" + textwrap.fill(sentence, WIDTH, initial_indent="# ", subsequent_indent="# ")
