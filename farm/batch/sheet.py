"""The first sheet of a workbook of Excel, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

from farm.batch.table import Table, table_of
from farm.errors import InvalidInput


@contextmanager
def open_sheet(path: Path) -> Iterator[Table]:
    """The table, whose rows are read one by one while the block runs.

    Raises InvalidInput without the package that reads it, and for any other file.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise InvalidInput(
            f"{path}: openpyxl is not installed; allowed: infinitetalk-farm[excel], or 'CSV UTF-8'"
        ) from error
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # of zipfile, of XML and its own
        raise InvalidInput(f"{path}: it is no workbook of Excel ({error})") from error
    with closing(workbook):
        rows = enumerate(workbook.worksheets[0].iter_rows(values_only=True), start=1)
        yield table_of((line, [_text(value) for value in cells]) for line, cells in rows)


def _text(value: object) -> str:
    """A cell as a CSV has it: numbers without needless decimals, dates by ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date) else str(value)
