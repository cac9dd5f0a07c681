"""The command about voices."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from farm.cli.names import as_typed
from farm.cli.options import json_option, output_option
from farm.cli.render import echo, echo_json
from farm.client.voices import say, voices
from farm.errors import InvalidInput
from farm.settings import Settings

VARIANTS_NOTE = (
    "A variant may follow: de+f3. f1 to f5 are women, m1 to m8 men; "
    "docs/reference/voices.md has the others."
)


@click.command("voices")
@click.option("--language", help="only voices of this language, such as de, german or deutsch")
@click.option("--say", "text", metavar="TEXT", help="speak this text into the file of -o instead")
@click.option("--voice", metavar="NAME", help="the voice of --say; default: the first one listed")
@output_option("write the speech to this WAV file")
@json_option("print one line of JSON per voice")
def list_voices(
    language: str | None, text: str | None, voice: str | None, output: Path | None, as_json: bool
) -> None:
    """List the voices that read a text, or hear one.

    Kokoro's are listed if they are installed on this machine.

    Example: farm voices --language de, or farm voices --say "Guten Tag" --voice de+f3 -o tag.wav
    """
    settings = Settings.load(os.environ)
    found = voices(settings, language)
    if (text is None) is not (output is None):
        raise InvalidInput("--say and -o: one of them is missing; allowed: both, or none")
    if text is not None and output is not None:
        with as_typed(None, {"voice": voice, "text": text}):
            say(text, voice or (found[0].name if language else None), output, settings)
        click.echo(output)
        return
    for each in found:
        if as_json:
            echo_json(json.dumps(asdict(each), ensure_ascii=False))
        else:
            echo(f"{each.name:18}  {each.label}")
    if not as_json:
        echo(VARIANTS_NOTE, err=True)
