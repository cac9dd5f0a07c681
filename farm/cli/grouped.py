"""Options in groups, and those of the contract's fields with their types and defaults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from mimetypes import guess_type
from shlex import quote
from typing import Any

import click

from farm.errors import InvalidInput
from farm.job import SHORT_NAMES, JobRequest

OTHER, FACE, VOICE, LENGTH = "Options", "Face", "Voice", "Length"
QUALITY, DELIVERY = "Quality", "Delivery"

GROUPS: dict[str, tuple[str, ...]] = {
    OTHER: (),
    FACE: ("cond_video", "bbox", "scene_seg"),
    VOICE: ("cond_audio", "tts_audio", "audio_type"),
    LENGTH: ("mode", "frame_num", "max_frame_num", "motion_frame"),
    QUALITY: (),
    DELIVERY: (
        *("output_config", "webhook", "priority", "placement", "max_cost", "idempotency_key"),
    ),
}
"""In the order of the help, with their fields; those of none are of QUALITY."""

METAVARS = {"cond_video": "FILE|URL", "webhook": "URL"}
"""Where JSON's type says too little."""

OPTIONS_OF_FILES = {
    "image": "--image",
    "video": "--video",
    "audio": "--audio",
    "json": "--request",
}
"""By the kinds of files."""

TYPES = {"integer": "INTEGER", "number": "NUMBER", "string": "TEXT"}
"""Of any other type a value is written in JSON."""


class GroupedOption(click.Option):
    """An option that the help lists under the heading of its group."""

    def __init__(self, *args: Any, group: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options by group, which names the options for files that have
    none, and refuses an option that is repeated.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            _, bare, typed = self.make_parser(ctx).parse_args(list(args))
            if bare:
                ctx.fail(f"Got unexpected extra arguments ({' '.join(bare)}). {_hint(bare)}")
            _check_repeated(typed)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                rows[getattr(param, "group", OTHER)].append(record)
        for group, records in rows.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)


def _hint(bare: Sequence[str]) -> str:
    """What words without an option were meant to be, by the kinds of files that they name."""
    options = [OPTIONS_OF_FILES.get(kind) for kind in map(_kind, bare)]
    if None in options:
        names = ", ".join(OPTIONS_OF_FILES.values())
        return f"A file needs its option ({names}), a text of several words quotes."
    meant = " ".join(f"{option} {quote(word)}" for option, word in zip(options, bare, strict=True))
    return f"Did you mean `{meant}`?"


def _kind(name: str) -> str:
    """The kind of a file by its name: json, or that of its media."""
    main, _, sub = (guess_type(name)[0] or "").partition("/")
    return sub if main == "application" else main


def _check_repeated(typed: list[click.Parameter]) -> None:
    """Raises InvalidInput for options with a value, or a negative, of which one would be lost."""
    mistakes = []
    for option, times in Counter(typed).items():
        is_switch = isinstance(option, click.Option) and option.is_flag
        if times > 1 and not (is_switch and not option.secondary_opts):
            second = f"{option.name}2"
            hint = f"; a second speaker has --{second}" if second in SHORT_NAMES else ""
            mistakes.append(f"{option.opts[-1]}: got {times} of it; allowed: one{hint}")
    if mistakes:
        raise InvalidInput("\n".join(mistakes))


def field_option(name: str) -> GroupedOption:
    """The option of a field, whose value is its text; a flag if the field is true or false."""
    option = f"--{name.replace('_', '-')}"
    group = next((group for group, names in GROUPS.items() if name in names), QUALITY)
    help_text = _help(name)
    metavar = METAVARS.get(name) or _metavar(name)
    if metavar:
        return GroupedOption([option], group=group, metavar=metavar, help=help_text)
    negative = option.replace("--", "--no-", 1)
    return GroupedOption(
        [f"{option}/{negative}"], group=group, default=None, callback=_as_text, help=help_text
    )


def _as_text(_: click.Context, __: click.Parameter, is_on: bool | None) -> str | None:
    return None if is_on is None else json.dumps(is_on)


def _help(name: str) -> str:
    """What a field is, with its default unless that is null, the model's or none."""
    field = JobRequest.model_fields[name]
    text = field.description or ""
    if field.is_required() or field.default in (None, ()):
        return text
    default = json.dumps(field.default).strip('"')
    return f"{text}  [default: {default}]"


def _metavar(name: str) -> str | None:
    """What to type as the value of a field; None if it is true or false."""
    schema = _schemas()[name]
    kind = schema.get("anyOf", [schema])[0]  # the second one is null
    if "enum" in kind:
        return f"[{'|'.join(kind['enum'])}]"
    return None if kind.get("type") == "boolean" else TYPES.get(kind.get("type"), "JSON")


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema of each field."""
    properties: dict[str, dict[str, Any]] = JobRequest.model_json_schema()["properties"]
    return properties
