"""A request in a file of the caller's, whose paths start where the file lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.errors import InvalidInput


def read_payload(file: Path) -> dict[str, Any]:
    """The object in a JSON file, ready for `JobRequest.parse`; InvalidInput for anything else."""
    try:
        fields = json.loads(file.read_text())
    except ValueError as error:
        raise InvalidInput(f"{file}: it is not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"{file}: got {type(fields).__name__}; allowed: one JSON object with the contract's fields")
    return beside(file, fields)


def beside(file: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with those sources as full paths that are files when looked for from a file's folder."""
    found = dict(fields)
    if isinstance(fields.get("cond_audio"), dict):
        found["cond_audio"] = {who: _beside(file, source) for who, source in fields["cond_audio"].items()}
    if "cond_video" in fields:
        found["cond_video"] = _beside(file, fields["cond_video"])
    return found


def _beside(file: Path, source: Any) -> Any:
    try:
        path = file.parent / source
        return str(path) if path.is_file() else source
    except (OSError, TypeError, ValueError):  # base64 is too long for a name, and only texts without a zero are paths
        return source
