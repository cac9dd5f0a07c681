"""Where settings come from: variables before `farm.toml` in FARM_HOME, before the defaults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from farm.errors import InvalidInput

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

BUCKET = "S3_BUCKET"
"""Becomes `store_url` together with both keys, since other programs use it too."""

FILE = "farm.toml"


class Given(NamedTuple):
    """A value as it was set, and by what: the name of a variable, or a file and a name in it."""

    value: Any
    origin: str


def given_settings(environ: Mapping[str, str], home: Path) -> dict[str, Given]:
    """What is set, by field; `home` is FARM_HOME unless that is set.

    Raises InvalidInput for a `farm.toml` that cannot be read.
    """
    file = Path(environ.get(PREFIX + "HOME") or home).expanduser() / FILE
    given = {name: Given(value, f"{file}: {name}") for name, value in _in_file(file).items()}
    for name, field in UNPREFIXED.items():
        if name in environ:
            given[field] = Given(environ[name], name)
    if BUCKET in environ and {"S3_ACCESS_KEY", "S3_SECRET_KEY"} <= environ.keys():
        given["store_url"] = Given(f"s3://{environ[BUCKET]}", BUCKET)
    for name, value in environ.items():
        if name.startswith(PREFIX):
            given[name.removeprefix(PREFIX).lower()] = Given(value, name)
    return given


def _in_file(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(
            f"{file}: it cannot be read as TOML ({error}); allowed: lines such as grace_s = 5 and "
            'name = "my-farm"; text needs quotes'
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file}: it cannot be read as TOML ({error})") from error
    if "home" in found:
        raise InvalidInput(f"{file}: home: got the folder of the file; allowed: FARM_HOME")
    return found


def with_origins(message: str, given: Mapping[str, Given]) -> str:
    """Errors about FARM_X, each with what X was set by in its place; a name that one for a file
    suggests is as in the file.
    """
    origins = {PREFIX + field.upper(): each.origin for field, each in given.items()}
    lines = (line.partition(":") for line in message.splitlines())
    return "\n".join(
        _with_origin(origins.get(name, name), colon + rest) for name, colon, rest in lines
    )


def _with_origin(origin: str, error: str) -> str:
    is_in_file = ":" in origin
    if is_in_file:
        hint = rf"(?<=did you mean ){PREFIX}(\w+)(?=\?$)"
        error = re.sub(hint, lambda found: found[1].lower(), error)
    return origin + error
