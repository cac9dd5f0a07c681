"""Fields of a request as texts: on a command line, in a table, in a form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from farm.job.contract import Contract
from farm.job.request import Boxes, CondAudio, JobRequest, OutputConfig, TtsAudio

PARTS: dict[str, type[Contract]] = {
    "cond_audio": CondAudio,
    "tts_audio": TtsAudio,
    "bbox": Boxes,
    "output_config": OutputConfig,
}
"""Fields whose parts can be given one by one."""

TEXT_FIELDS = (
    *JobRequest.model_fields,
    *(f"{field}.{part}" for field, kind in PARTS.items() for part in kind.model_fields),
)
"""The names that `fields_from_text` knows."""


def fields_from_text(texts: Mapping[str, str]) -> dict[str, Any]:
    """Fields for `JobRequest.parse`; all but plain texts are read as JSON.

    A part of a field is named as in `cond_audio.person1`.
    """
    fields: dict[str, Any] = {}
    for name, text in texts.items():
        field, dot, part = name.partition(".")
        if dot:
            fields.setdefault(field, {})[part] = value_from_text(PARTS[field], part, text)
        else:
            fields[field] = value_from_text(JobRequest, field, text)
    return fields


def value_from_text(cls: type[BaseModel], field: str, text: str) -> Any:
    """The value of a field in JSON, or a text as it is; `cls` finds out whether it may be."""
    kinds = _kinds(cls, field) if field in cls.model_fields else {"string"}
    if "string" in kinds:
        return text
    if "boolean" in kinds and text.strip().lower() in ("true", "false"):
        text = text.lower()  # Excel writes TRUE, pandas True
    whole_number = re.fullmatch(r"\s*(-?[0-9]+)\.0*\s*", text)
    if "integer" in kinds and whole_number:
        text = whole_number[1]  # pandas writes 4.0 in a column with an empty cell
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text  # `parse` reports it


@cache
def _kinds(cls: type[BaseModel], field: str) -> set[str]:
    """JSON's types that a field accepts, as far as its schema names them."""
    schema = cls.model_json_schema()["properties"][field]
    return {each["type"] for each in (schema, *schema.get("anyOf", ())) if "type" in each}
