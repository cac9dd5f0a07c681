"""Options that commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from farm.client.job import check_target
from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.job.files import read_payload

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE_OR_INPUT = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
TARGET = click.Path(dir_okay=False, path_type=Path)

Option = Callable[[Any], Any]


def json_option(said: str) -> Option:
    """`--json`, which prints for machines what is otherwise printed for people."""
    return click.option("--json", "as_json", is_flag=True, help=said)


def output_option(said: str) -> Option:
    """`--output`, a file that can be written, which is looked at before anything is done."""
    return click.option("-o", "--output", type=TARGET, callback=_writable, help=said)


def _writable(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    if path:
        check_target(path)
    return path


def request_options(command: click.Command) -> click.Command:
    """Gives a command an option for every field of the contract, the short ones and the file that has them all."""
    command.params += [
        click.Option(
            ["--image"], metavar="FILE|URL", help="the face: a picture (short for --cond-video)"
        ),
        click.Option(
            ["--video"], metavar="FILE|URL", help="the face: a video (short for --cond-video)"
        ),
        click.Option(
            ["--audio"],
            metavar="FILE|URL",
            help="the voice (short for --cond-audio '{\"person1\": ...}')",
        ),
        click.Option(
            ["--text"],
            metavar="WORDS",
            help="words to speak (short for --tts-audio '{\"text\": ...}')",
        ),
        click.Option(
            ["--voice"], metavar="NAME", help="the voice that speaks them, for example en-us+f3"
        ),
        click.Option(
            ["--request", "file"],
            type=FILE_OR_INPUT,
            metavar="FILE",
            help="JSON of all fields, - for standard input; options go before it",
        ),
    ]
    for name, field in JobRequest.model_fields.items():
        option = click.Option(
            [f"--{name.replace('_', '-')}"], metavar="VALUE", help=field.description
        )
        command.params.append(option)
    return command


def request_fields(file: Path | None, words: Mapping[str, str | None]) -> dict[str, Any]:
    """The contract's fields that a file and the options name; InvalidInput if an option says what another says."""
    given = {name: word for name, word in words.items() if word is not None}
    short = {
        name: given.pop(name)
        for name in ("image", "video", "audio", "text", "voice")
        if name in given
    }
    fields = JobRequest.fields_from_text(given)
    meant: list[tuple[str, str, Any]] = [
        ("cond_video", name, short[name]) for name in ("image", "video") if name in short
    ]
    if "audio" in short:
        meant.append(("cond_audio", "audio", {"person1": short["audio"]}))
    if "voice" in short and "text" not in short:
        raise InvalidInput(
            f"--voice: got {short['voice']!r} without --text, the words that it speaks"
        )
    if "text" in short:
        meant.append(
            ("tts_audio", "text", {"text": short["text"], "human1_voice": short.get("voice")})
        )
    for field, option, value in meant:
        if field in fields:
            raise InvalidInput(f"--{option}: {field} is given twice; allowed: one of its options")
        fields[field] = value
    return {**(read_payload(file) if file else {}), **fields}
