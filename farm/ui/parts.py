"""The parts of the page that are no Python: style sheets and JavaScript, in files beside this."""

from __future__ import annotations

from importlib.resources import files


def read_part(name: str) -> str:
    return files("farm.ui").joinpath(name).read_text()
