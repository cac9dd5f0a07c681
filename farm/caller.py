"""Callers: the names by which the farm tells apart who submits jobs.

A name is given by the interface that knows the person or program, never by a request.
"""

from __future__ import annotations

import getpass
import re
from typing import Annotated

from pydantic import Field

from farm.errors import InvalidInput, shorten

MAX_LENGTH = 64
ALLOWED = f"1 to {MAX_LENGTH} of the characters A-Z a-z 0-9 . _ @ + -, none of . + - first"
CALLER = re.compile(rf"^[A-Za-z0-9_@][A-Za-z0-9._@+-]{{0,{MAX_LENGTH - 1}}}$")

CallerName = Annotated[str, Field(pattern=CALLER.pattern)]

LOCAL = "local"
"""The caller of a process whose user has no name, as in many containers."""


def check_caller(name: str, *, field: str = "caller") -> str:
    """The name; InvalidInput, which names the field, if it cannot be a caller's."""
    if CALLER.fullmatch(name):
        return name
    raise InvalidInput(f"{field}: got {shorten(repr(name))}; allowed: {ALLOWED}")


def local_user() -> str:
    """The name of the user of this process, with _ for each character that callers do not have."""
    try:
        name = getpass.getuser()
    except (ImportError, KeyError, OSError):  # KeyError before Python 3.13
        return LOCAL
    return re.sub(r"^[.+-]|[^A-Za-z0-9._@+-]", "_", name)[:MAX_LENGTH] or LOCAL
