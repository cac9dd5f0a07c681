"""What became of a batch's rows: a line for each in a CSV, written as it ends; several batches may share the file."""

from __future__ import annotations

import csv
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from farm.errors import FarmError, InvalidInput
from farm.job import JobStatus

DONE = "success"
INVALID = "invalid"
GPU_TIMINGS = ("load_ms", "sampling_ms", "decode_ms")
"""What a gpu worker's time goes into."""


@dataclass(frozen=True)
class Outcome:
    """How a row ended: `success`, `error`, `cancelled`, or `invalid` if it never became a job."""

    id: str
    status: str
    job_id: str = ""
    url: str = ""
    seed: str = ""
    gpu_s: str = ""
    code: str = ""
    message: str = ""


BATCH = "batch"
"""The last column: the id of the batch that a line is of."""

COLUMNS = [*(each.name for each in fields(Outcome)), BATCH]


def of_job(name: str, status: JobStatus) -> Outcome:
    """The outcome of a row whose job has ended."""
    made = status.result
    if made is None or made.error:
        code, message = (made.error.code, made.error.message) if made and made.error else ("", "")
        return Outcome(name, status.state, status.job_id, code=code, message=message)
    seconds = sum(made.timings.get(timing, 0) for timing in GPU_TIMINGS) / 1000
    url = made.video.url if made.video else ""
    return Outcome(
        name, DONE, status.job_id, url, str(made.params.get("base_seed", "")), f"{seconds:.1f}"
    )


def of_mistake(name: str, error: FarmError) -> Outcome:
    """The outcome of a row that cannot become a job."""
    return Outcome(name, INVALID, code=error.code, message=error.message)


class Results:
    """An open file of results; `done` names the rows of a batch that have their video and are not done again."""

    def __init__(self, file: TextIO, batch: str, lines: list[dict[str, str]]) -> None:
        self.batch = batch
        self.done = {line["id"] for line in lines if self._is_ours(line) and line["status"] == DONE}
        self._file = file
        self._lines = csv.DictWriter(file, COLUMNS)
        self._lines.writeheader()
        self._lines.writerows(
            line for line in lines if not self._is_ours(line) or line["status"] == DONE
        )
        self._file.flush()

    def add(self, outcome: Outcome) -> None:
        self._lines.writerow({**asdict(outcome), BATCH: self.batch})
        self._file.flush()

    def _is_ours(self, line: dict[str, str]) -> bool:
        return line[BATCH] == self.batch


@contextmanager
def open_results(path: Path, *, batch: str) -> Iterator[Results]:
    """The results at `path`, where rows of this batch that have no video lose their line: they are tried again.

    InvalidInput for a file of another kind, which stays as it is, and while another writes here.
    """
    with _claimed(path) as file:
        lines = _read(path, file)
        file.seek(0)
        file.truncate()
        yield Results(file, batch, lines)


def _claimed(path: Path) -> TextIO:
    """The file, which nobody else writes until it is closed."""
    try:
        file = path.open("a+", newline="", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidInput(
            f"out: got {str(path)!r}; another `farm batch` writes there; let it end first"
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"out: got {str(path)!r}; it cannot be written ({error.strerror})"
        ) from error
    return file


def _read(path: Path, file: TextIO) -> list[dict[str, str]]:
    """What an earlier run wrote; a last line that was cut off says nothing."""
    file.seek(0)
    reader = csv.DictReader(file)
    try:
        if reader.fieldnames in (None, COLUMNS):
            return [line for line in reader if None not in line.values() and None not in line]
    except (UnicodeDecodeError, csv.Error):  # not even a table
        pass
    raise InvalidInput(
        f"out: got {str(path)!r}, which holds something else; allowed: a new file, or earlier results"
    )
