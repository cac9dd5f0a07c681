"""A request, or a batch of them, in a file of the caller's, whose paths start where the file lies."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from farm.errors import InvalidInput, did_you_mean

BATCH_FIELDS = {"batch", "output_config"}
"""What a batch says as a whole: its items, and where the results of those go that do not say so themselves."""


def read_payload(file: Path) -> dict[str, Any]:
    """The request in a JSON file, ready for `JobRequest.parse`; InvalidInput for anything else."""
    fields = read_object(file)
    if "batch" in fields:
        raise InvalidInput(f"{file}: it is a batch; `farm batch run {file}` takes it")
    if fields.keys() <= {"input", "policy"} and "input" in fields:
        raise InvalidInput(f"{file}: it is a request in Runpod's envelope; allowed: what stands there under input")
    return resolve_paths(file, fields)


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file (`-` is standard input) as it stands there; InvalidInput for anything else."""
    try:
        text = sys.stdin.read() if file == Path("-") else file.read_text(encoding="utf-8-sig")
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file}: it is not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"{file}: got {type(fields).__name__}; allowed: one JSON object with the contract's fields")
    return fields


def batch_items(batch: Mapping[str, Any]) -> Iterator[dict[str, Any] | InvalidInput]:
    """What the contract's `{"batch": [...]}` holds, one by one: fields with an `id`, or what is wrong with an item.

    InvalidInput, before the first one, for an object that is no batch.
    """
    if not isinstance(batch.get("batch"), list):
        raise InvalidInput(f"batch: got {type(batch.get('batch')).__name__}; allowed: a list of requests")
    for field in batch.keys() - BATCH_FIELDS:
        allowed = "allowed: batch and output_config"
        hint = did_you_mean(field, BATCH_FIELDS)
        raise InvalidInput(f"{field}: there is no such field of a batch; {allowed}{hint}")
    shared = {"output_config": batch["output_config"]} if batch.get("output_config") else {}
    return (_item(index, item, shared) for index, item in enumerate(batch["batch"]))


def _item(index: int, item: Any, shared: Mapping[str, Any]) -> dict[str, Any] | InvalidInput:
    if isinstance(item, dict):
        return {"id": f"item-{index}", **shared, **item}
    return InvalidInput(f"request: got {type(item).__name__}; allowed: an object")


def resolve_paths(file: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
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
