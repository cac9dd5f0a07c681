"""Names of the contract's fields: short ones, and those that errors have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from farm.errors import InvalidInput

SHORT_NAMES = {
    "image": "cond_video",
    "video": "cond_video",
    "audio": "cond_audio.person1",
    "audio2": "cond_audio.person2",
    "text": "tts_audio.text",
    "voice": "tts_audio.human1_voice",
    "voice2": "tts_audio.human2_voice",
}
"""Names of fields, or of parts of them, on a command line, in a table and in a form.

JSON and Python have the contract's own names, and errors there suggest these.
"""

_NAMES = re.compile(
    r"""(?<!\w)'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"  # values and keys, which stay as they are
    |(?m:^)[a-z0-9_.]+(?=:\ )|[a-z0-9]+_[a-z0-9_]*(?:\.[a-z0-9_]+)?""",
    re.VERBOSE,
)
"""What a line begins with, and names of several words."""


def renamed(message: str, rename: Callable[[str], str]) -> str:
    """A message whose names are replaced; `rename` returns what is no field as it is."""
    return _NAMES.sub(lambda match: rename(match[0]), message)


@contextmanager
def named_as(names: Mapping[str, str]) -> Iterator[None]:
    """Errors of the block name these fields, or parts of fields, as their user did."""
    wholes = {name.partition(".")[0]: typed for name, typed in reversed(list(names.items()))}

    try:
        yield
    except InvalidInput as error:
        typed = {**wholes, **names}
        raise type(error)(renamed(error.message, lambda name: typed.get(name, name))) from error
