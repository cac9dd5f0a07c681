"""The rows of a batch, in CSV, JSON Lines or one JSON: a bad row is its own affair, a bad header all's."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.errors import InvalidInput, did_you_mean
from farm.job import PARTS, JobRequest
from farm.job.files import batch_items, read_object, resolve_paths

ID = "id"
"""The column, or key, that names a row; it is no field of the contract."""

COLUMNS = [
    ID,
    *JobRequest.model_fields,
    *(f"{field}.{part}" for field, kind in PARTS.items() for part in kind.model_fields),
]
"""What the columns of a table may be called."""

DELIMITERS = ",;\t"

LONGEST_ID = 200
"""Characters; it stands in the results, in logs and in a terminal."""


@dataclass(frozen=True)
class Row:
    """One wish: `fields` for `JobRequest.parse`, or the `mistake` in how it is written.

    `line` counts from 1; in one JSON, whose lines say nothing, it is the item's number.
    """

    line: int
    name: str
    """Its id, or a digest of what it says; the same whenever the file is read."""
    fields: Mapping[str, Any]
    mistake: InvalidInput | None = None

    def request(self) -> JobRequest:
        """What it asks for; InvalidInput."""
        if self.mistake:
            raise self.mistake
        return JobRequest.parse(self.fields)


def rows(file: Path) -> Iterator[Row]:
    """The rows of a .csv, .jsonl or .json file one by one; InvalidInput for another kind or a wrong header."""
    readers = {".csv": _table, ".jsonl": _objects, ".ndjson": _objects, ".json": _batch}
    if file.suffix.lower() not in readers:
        raise InvalidInput(f"{file}: allowed: a file whose name ends in {', '.join(readers)}")
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from _named(file, readers[file.suffix.lower()](file, lines))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: it is not text in UTF-8 ({error})") from error
    except OSError as error:
        raise InvalidInput(f"{file}: it cannot be read ({error.strerror})") from error


def _named(file: Path, written: Iterable[tuple[int, dict[str, Any] | InvalidInput]]) -> Iterator[Row]:
    """Rows with their names; the second row of an id is a mistake, of the same words one more wish for them."""
    ids: dict[str, int] = {}
    alike: Counter[str] = Counter()
    for line, fields in written:
        if isinstance(fields, InvalidInput):
            yield Row(line, f"line-{line}", {}, fields)
            continue
        given = fields.pop(ID, None)
        if given is None:
            name = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
            alike[name] += 1
            yield Row(line, name if alike[name] == 1 else f"{name}-{alike[name]}", resolve_paths(file, fields))
        elif not _is_id(given):
            odd = f"id: got {repr(given)[:LONGEST_ID]}; allowed: a number, or 1 to {LONGEST_ID} printable characters"
            yield Row(line, f"line-{line}", {}, InvalidInput(odd))
        elif ids.setdefault(str(given), line) != line:
            twice = InvalidInput(
                f"id: got {given!r}, which line {ids[str(given)]} has already; allowed: an id for each"
            )
            yield Row(line, str(given), {}, twice)
        else:
            yield Row(line, str(given), resolve_paths(file, fields))


def _is_id(given: Any) -> bool:
    return isinstance(given, str | int) and 0 < len(str(given)) <= LONGEST_ID and str(given).isprintable()


def _objects(file: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | InvalidInput]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, InvalidInput(f"request: it is not JSON ({error})")
            continue
        kind = type(fields).__name__
        yield number, fields if isinstance(fields, dict) else InvalidInput(f"request: got {kind}; allowed: an object")


def _batch(file: Path, _: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | InvalidInput]]:
    """The items of the contract's batch, all of which are in memory."""
    return enumerate(batch_items(read_object(file)), start=1)


def _table(file: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | InvalidInput]]:
    remaining = iter(lines)
    header = next(remaining, "")
    delimiter = max(DELIMITERS, key=header.count)
    columns = [each.strip() for each in next(csv.reader([header], delimiter=delimiter), [])]
    _check_header(file, columns)
    reader = csv.reader(remaining, delimiter=delimiter)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num + 1, InvalidInput(f"request: it is not CSV ({error})")
            continue
        if cells:
            yield reader.line_num + 1, _fields(columns, cells)


def _check_header(file: Path, columns: list[str]) -> None:
    for column in columns:
        if column not in COLUMNS:
            allowed = f"allowed: {ID} and the contract's fields"
            hint = did_you_mean(column, COLUMNS)
            raise InvalidInput(f"{file}: got the column {column!r}; {allowed}{hint}")
        if columns.count(column) > 1 or (column in PARTS and any(each.startswith(f"{column}.") for each in columns)):
            raise InvalidInput(f"{file}: the column {column!r} is given twice; allowed: one for each field")
    if not columns:
        raise InvalidInput(f"{file}: it is empty; allowed: a first line that names the columns")


def _fields(columns: list[str], cells: list[str]) -> dict[str, Any] | InvalidInput:
    """What a line of a table says; an empty cell says nothing."""
    if len(cells) != len(columns):
        return InvalidInput(f"request: the line has {len(cells)} cells; allowed: {len(columns)}, as the header")
    return JobRequest.fields_from_text({column: cell for column, cell in zip(columns, cells, strict=True) if cell.strip()})
