"""Options that several commands share, and the request that they add up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import click

from farm.cli.grouped import FACE, VOICE, GroupedOption, field_option
from farm.client.job import check_target, check_video_target, names_folder
from farm.errors import InvalidInput
from farm.job import SHORT_NAMES, JobRequest, fields_from_text
from farm.job.files import check_overwrites, files_of, read_payload
from farm.job.voices import DEFAULT_VOICE

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE_OR_STDIN = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
TARGET = click.Path(dir_okay=False, path_type=Path)

Decorator = Callable[[Any], Any]


def json_option(help_text: str) -> Decorator:
    """`--json`: output for programs instead of people."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


yes_option = click.option("--yes", is_flag=True, help="do not ask")


def output_option(help_text: str) -> Decorator:
    """`--output`: a file, whose folder is checked for write access before anything is done."""
    return click.option(
        "-o", "--output", metavar="FILE", type=click.Path(), callback=_check_file, help=help_text
    )


def video_option(help_text: str) -> Decorator:
    """The same for a video, which has a name of its own in a folder."""
    return click.option(
        *("-o", "--output"),
        metavar="FILE|FOLDER",
        type=click.Path(),
        callback=_check_video,
        help=help_text,
    )


def _check_file(_: click.Context, __: click.Parameter, target: str | None) -> Path | None:
    if not target:
        return None
    if names_folder(target):
        raise InvalidInput(f"output: got {target!r}; allowed: a file in a writable folder")
    check_target(target)
    return Path(target)


def _check_video(_: click.Context, __: click.Parameter, target: str | None) -> str | None:
    if target:
        check_video_target(target)
    return target


def check_output(output: str | Path | None, file: Path | None, fields: Mapping[str, Any]) -> None:
    """Raises InvalidInput for an output that would replace a file of the request, or its own."""
    if output:
        inputs = files_of(fields) | ({"--request": file} if file else {})
        check_overwrites([("output", Path(output))], inputs.items())


class Shorthand(NamedTuple):
    """An option that is shorter than the field, or the part of one, that it sets."""

    name: str
    metavar: str
    help: str
    group: str

    @property
    def field(self) -> str:
        return SHORT_NAMES[self.name]


SHORTHANDS = (
    Shorthand("image", "FILE|URL", "the face: an image", FACE),
    Shorthand("video", "FILE|URL", "the face: a video", FACE),
    Shorthand(
        "audio", "FILE|URL", "the voice: a recording, instead of the text of --request", VOICE
    ),
    Shorthand("audio2", "FILE|URL", "the voice of the second speaker", VOICE),
    Shorthand("text", "TEXT", "text to speak, instead of the recording of --request", VOICE),
    Shorthand(
        *("voice", "NAME"),
        "what speaks the text, for example en-us+f3; `farm voices` lists them  "
        f"[default: {DEFAULT_VOICE}]",
        VOICE,
    ),
    Shorthand("voice2", "NAME", "what speaks the turns (s2) of the text", VOICE),
)

REPLACED = {"tts_audio": ("cond_audio", "audio_type"), "cond_audio": ("tts_audio",)}
"""Fields of a file that have no meaning beside one that an option sets: a video has one voice."""


def request_options(command: click.Command) -> click.Command:
    """Adds `--request`, the shorthands, and an option for every field of the contract."""
    for name, metavar, help_text, group in SHORTHANDS:
        option = GroupedOption([f"--{name}"], group=group, metavar=metavar, help=help_text)
        command.params.append(option)
    file_help = "JSON file with all fields, - for standard input; options override it"
    file_option = ["--request", "file"]
    command.params.append(
        click.Option(file_option, type=FILE_OR_STDIN, metavar="FILE", help=file_help)
    )
    command.params += map(field_option, JobRequest.model_fields)
    return command


def request_fields(file: Path | None, options: Mapping[str, str | None]) -> dict[str, Any]:
    """The contract's fields from a file and from options, which override the file's.

    Raises InvalidInput if two options set the same field.
    """
    texts = given(options)
    names = {option: SHORT_NAMES.get(option, option) for option in texts}
    for name in names.values():
        rivals = [option for option, other in names.items() if _set_the_same(name, other)]
        if len(rivals) > 1:
            raise InvalidInput(f"{' and '.join(map(dashed, rivals))}: allowed: one of them")
    fields = fields_from_text({names[option]: text for option, text in texts.items()})
    if file is None:
        return fields
    partly = {head(name) for name in names.values() if "." in name}
    return _merged(read_payload(file), fields, partly)


def _merged(
    in_file: Mapping[str, Any], typed: Mapping[str, Any], partly: Set[str]
) -> dict[str, Any]:
    """The fields of a file, with those of options, or `partly` their parts, in place of its own."""
    replaced = {name for field in typed for name in REPLACED.get(field, ()) if name not in typed}
    merged = {name: value for name, value in in_file.items() if name not in replaced}
    for field, value in typed.items():
        own = merged.get(field)
        merged[field] = {**own, **value} if field in partly and isinstance(own, dict) else value
    return merged


def _set_the_same(field: str, other: str) -> bool:
    return field in (other, head(other)) or other == head(field)


def given(options: Mapping[str, str | None]) -> dict[str, str]:
    """The options that were typed."""
    return {name: text for name, text in options.items() if text is not None}


def dashed(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def head(field: str) -> str:
    """The field that a part such as cond_audio.person1 belongs to."""
    return field.partition(".")[0]
