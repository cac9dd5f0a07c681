"""Options that several commands share, and the request that they add up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from farm.client.job import check_target
from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.job.files import read_payload

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE_OR_STDIN = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
TARGET = click.Path(dir_okay=False, path_type=Path)

Decorator = Callable[[Any], Any]


def json_option(help_text: str) -> Decorator:
    """`--json`: output for programs instead of people."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def output_option(help_text: str) -> Decorator:
    """`--output`: a file, whose folder is checked for write access before anything is done."""
    return click.option("-o", "--output", type=TARGET, callback=_check_writable, help=help_text)


def _check_writable(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    if path:
        check_target(path)
    return path


class Shorthand(NamedTuple):
    """An option that is shorter than the field that it sets."""

    name: str
    metavar: str
    help: str


SHORTHANDS = (
    Shorthand("image", "FILE|URL", "the face: an image (short for --cond-video)"),
    Shorthand("video", "FILE|URL", "the face: a video (short for --cond-video)"),
    Shorthand("audio", "FILE|URL", "the voice (short for --cond-audio '{\"person1\": ...}')"),
    Shorthand("text", "TEXT", "text to speak (short for --tts-audio '{\"text\": ...}')"),
    Shorthand("voice", "NAME", "the voice that speaks --text, for example en-us+f3"),
)


def request_options(command: click.Command) -> click.Command:
    """Adds `--request`, the shorthands, and an option for every field of the contract."""
    for name, metavar, help_text in SHORTHANDS:
        command.params.append(click.Option([f"--{name}"], metavar=metavar, help=help_text))
    file_help = "JSON file with all fields, - for standard input; options override it"
    file_option = ["--request", "file"]
    command.params.append(
        click.Option(file_option, type=FILE_OR_STDIN, metavar="FILE", help=file_help)
    )
    for name, field in JobRequest.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        command.params.append(click.Option([option], metavar="VALUE", help=field.description))
    return command


def request_fields(file: Path | None, options: Mapping[str, str | None]) -> dict[str, Any]:
    """The contract's fields from a file and from options, which override the file's.

    Raises InvalidInput if two options set the same field.
    """
    given = {name: text for name, text in options.items() if text is not None}
    names = {name for name, _, _ in SHORTHANDS}
    shorthands = {name: text for name, text in given.items() if name in names}
    fields = JobRequest.fields_from_text(
        {name: text for name, text in given.items() if name not in names}
    )
    for option, field, value in _expanded(shorthands):
        if field in fields:
            raise InvalidInput(f"--{option}: {field} is given twice; allowed: one of its options")
        fields[field] = value
    if file is None:
        return fields
    return {**read_payload(file), **fields}


def _expanded(shorthands: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    """The shorthand, the field that it sets, and its value."""
    expanded: list[tuple[str, str, Any]] = []
    for name in ("image", "video"):
        if name in shorthands:
            expanded.append((name, "cond_video", shorthands[name]))
    if "audio" in shorthands:
        expanded.append(("audio", "cond_audio", {"person1": shorthands["audio"]}))
    voice = shorthands.get("voice")
    if "text" in shorthands:
        speech = {"text": shorthands["text"], "human1_voice": voice}
        expanded.append(("text", "tts_audio", speech))
    elif voice is not None:
        raise InvalidInput(f"--voice: got {voice!r} without --text, which it speaks")
    return expanded
