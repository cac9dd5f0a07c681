"""The figures of the code are counted by their definitions."""

from __future__ import annotations

from pathlib import Path

from benchmarks.code_figures import figures

MODULE = '''\
"""A module."""


def first(a, b):
    """Two lines
    of docstring."""
    x, y = a, b  # a parallel assignment
    return [
        x if x else y
    ]


def second():
    x = 1
    return -x
'''


def test_a_module_is_counted_by_the_definitions(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE + "# " + 99 * "-")
    table = dict(figures([tmp_path]).table())
    assert table["files; lines"] == "1; 16"
    assert table["function lines mean / median / p90 / longest"] == "4.0 / 4 / 5 / 5"
    assert table["functions; over 25 lines"] == "2; 0"
    # first: 8 + 7 + 2 + 5 + 1, without its docstring; second: 5 + 3 + 3
    assert table["tokens a function mean / median"] == "17 / 17"
    # in 4 and 3 lines that hold more than brackets
    assert table["tokens a line in functions"] == "4.9"
    assert table["parallel assignments"] == "83.3 (1)"
    assert table["conditional expressions"] == "83.3 (1)"
    assert table["comments"] == "166.7 (2)"
    assert table["lines over 100 columns"] == "6.2%"
