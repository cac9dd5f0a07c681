"""Requests and batches in JSON files; relative paths in them start from the file's folder."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from farm.errors import InvalidInput, did_you_mean
from farm.validation import json_type, why_no_json

BATCH_FIELDS = {"batch", "output_config"}
"""Fields of a batch: its items, and the default `output_config` of items without one."""

STDIN = Path("-")


def read_payload(file: Path) -> dict[str, Any]:
    """The request in a JSON file, for `JobRequest.parse`; InvalidInput for anything else."""
    fields = read_object(file)
    if "batch" in fields:
        raise InvalidInput(f"{file}: it is a batch; use `farm batch run {file}`")
    if fields.keys() <= {"input", "policy"} and "input" in fields:
        raise InvalidInput(
            f"{file}: got a request in Runpod's envelope; allowed: the object under input"
        )
    return resolve_paths(file, fields)


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file, or on standard input for `-`; InvalidInput for anything else."""
    try:
        content = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        fields = json.loads(content)  # PowerShell pipes and saves UTF-16, or UTF-8 with a mark
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file}: it is not JSON ({why_no_json(error)})") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"{file}: got {json_type(fields)}; allowed: one JSON object")
    return fields


def batch_items(batch: Mapping[str, Any]) -> Iterator[dict[str, Any] | InvalidInput]:
    """The items of `{"batch": [...]}`, each as fields with an `id`, or as the error in it.

    Raises InvalidInput before the first item if the object is not a batch.
    """
    items = batch.get("batch")
    if not isinstance(items, list):
        if "batch" not in batch:
            raise InvalidInput(
                'batch: it is missing; allowed: {"batch": [requests]}; of one request, '
                "`farm submit --request FILE`"
            )
        raise InvalidInput(f"batch: got {json_type(items)}; allowed: a list of requests")
    for field in batch.keys() - BATCH_FIELDS:
        allowed = "allowed: batch and output_config"
        hint = did_you_mean(field, BATCH_FIELDS)
        raise InvalidInput(f"{field}: there is no such field of a batch; {allowed}{hint}")
    defaults = {}
    if batch.get("output_config"):
        defaults["output_config"] = batch["output_config"]
    return (_item(index, item, defaults) for index, item in enumerate(items))


def _item(index: int, item: Any, defaults: Mapping[str, Any]) -> dict[str, Any] | InvalidInput:
    if isinstance(item, dict):
        return {"id": f"item-{index}", **defaults, **item}
    return InvalidInput(f"request: got {json_type(item)}; allowed: an object")


def resolve_paths(file: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with absolute paths for sources that are files relative to a file's folder."""
    return change_sources(fields, lambda source, _: _resolve(file, source))


def change_sources(fields: Mapping[str, Any], change: Callable[[Any, str], Any]) -> dict[str, Any]:
    """The fields with each source, valid or not, replaced by `change(source, field)`."""
    changed = dict(fields)
    audio = fields.get("cond_audio")
    if isinstance(audio, Mapping):
        changed["cond_audio"] = {
            person: change(source, f"cond_audio.{person}") for person, source in audio.items()
        }
    if "cond_video" in fields:
        changed["cond_video"] = change(fields["cond_video"], "cond_video")
    return changed


def files_of(fields: Mapping[str, Any]) -> dict[str, Path]:
    """The sources of a request, valid or not, that are files of this machine, by field."""
    found = {}

    def keep(source: Any, field: str) -> Any:
        path = find_file(os.path.expanduser(source)) if isinstance(source, str) else None
        if path:
            found[field] = path
        return source

    change_sources(fields, keep)
    return found


def check_overwrites(
    outputs: Iterable[tuple[str, Path]], inputs: Iterable[tuple[str, Path]]
) -> None:
    """Raises InvalidInput for an output, given with its option, that is one of the inputs, given
    with their names, by whatever link.
    """
    names = {_identity(path): name for name, path in inputs}
    for option, path in outputs:
        identity = _identity(path)
        if identity and identity in names:
            raise InvalidInput(
                f"{option}: got {str(path)!r}, which is the file of {names[identity]}; "
                "allowed: another one"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """The same for two names of one file; None where there is none.

    A folder that is still to be made counts as made: `new/../face.png` is `face.png`.
    """
    try:
        status = os.stat(os.path.realpath(path))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def find_file(name: str) -> Path | None:
    """The file of that name, or of the same name with its accents composed or decomposed.

    macOS decomposes the accents in names (NFD), most other systems compose them (NFC).
    """
    spellings = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    # No Path before there is a file: base64 may have millions of slashes.
    return next((Path(each) for each in spellings if os.path.isfile(each)), None)


def _resolve(file: Path, source: Any) -> Any:
    found = find_file(os.path.join(file.parent, source)) if isinstance(source, str) else None
    return str(found) if found else source
