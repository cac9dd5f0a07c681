"""The voices of espeak-ng, for farm/job/espeak_voices.py and docs/reference/voices.md."""

from __future__ import annotations

import textwrap
from pathlib import Path

import espeakng_loader

from farm.job.voices import Voice
from farm.media import speech

MODULE = Path(__file__).parents[1] / "farm/job/espeak_voices.py"

HEADING = '''\
"""The voices of espeak-ng, known also where it is not installed.

Written by `python -m docs.generate` from its data.
"""

from __future__ import annotations
'''


def languages() -> dict[str, str]:
    """The English name of each language, by its code."""
    root = Path(espeakng_loader.get_data_path(), "lang")
    return {code: _value(root / file, "name") for code, file in speech.voices().items()}


def labels() -> dict[str, str]:
    """Each language in English and in itself, by its code."""
    return {code: Voice(code, code, name).label for code, name in languages().items()}


def women() -> list[str]:
    """The variants that are voices of women."""
    root = Path(espeakng_loader.get_data_path(), "voices", "!v")
    return [each for each in speech.voice_variants() if "female" in _value(root / each, "gender")]


def module() -> str:
    """The languages, and the variants that may follow them."""
    lines = [f'    "{code}": "{name}",\n' for code, name in languages().items()]
    variants = "".join(f'    "{each}",\n' for each in speech.voice_variants())
    return (
        f"{HEADING}\nLANGUAGES = {{\n{''.join(lines)}}}\n"
        f'"""The English name of each language, by its code."""\n\n'
        f'VARIANTS = (\n{variants})\n"""Names that may follow a code: `de+f3`."""\n'
    )


def variants_text() -> str:
    """The variants, in two sentences."""
    others = [each for each in speech.voice_variants() if each not in women()]
    text = f"Women: {', '.join(women())}. Others: {', '.join(others)}."
    return textwrap.fill(text, 110)


def _value(file: Path, key: str) -> str:
    """The value of a line such as `name German`, without its comment; empty if there is none."""
    for line in file.read_text("utf-8").splitlines():
        if line.startswith(f"{key} "):
            return line.removeprefix(key).partition("//")[0].strip()
    return ""
