"""The videos of a batch in a folder, each by the id of its row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from farm.batch.results import Results
from farm.batch.rows import rows
from farm.client import Farm
from farm.errors import FarmError, InvalidInput
from farm.job.files import check_overwrites, files_of

NOT_IN_NAMES = re.compile(r'[%/\\:*?"<>|]|^\.')
"""What some system has no file by; escaped, so that no two ids have one name."""


def video_file(folder: Path, row_id: str) -> Path:
    """Where the video of a row is saved."""
    name = NOT_IN_NAMES.sub(lambda match: f"%{ord(match[0]):02X}", row_id)
    return folder / f"{name}.mp4"


def check_batch_outputs(file: Path, output: Path, folder: Path | None) -> None:
    """Raises InvalidInput for results, or a video, that would replace a file of the batch."""
    inputs = [("the batch", file)]
    outputs = [("output", output)]
    for row in rows(file):
        inputs += [
            (f"{row.names.get(field, field)} of row {row.id}", path)
            for field, path in files_of(row.fields).items()
        ]
        if folder:
            outputs.append(("save", video_file(folder, row.id)))
    check_overwrites(outputs, inputs)


def make_save_folder(folder: Path) -> Path:
    """The folder, created; InvalidInput if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"save: got {str(folder)!r}; allowed: a folder that can be written ({error.strerror})"
        ) from error
    return folder.resolve()


def save_earlier(farm: Farm, results: Results, folder: Path | None) -> Iterator[str]:
    """Saves the videos of earlier runs that are not in the folder; why one could not be."""
    if folder is None:
        return
    for row_id, line in results.made.items():
        is_there = video_file(folder, row_id).exists()
        fault = "" if is_there else save_video(farm, row_id, line["job_id"], folder)
        if fault:
            yield f"{row_id}  {fault}"


def save_video(farm: Farm, row_id: str, job_id: str, folder: Path) -> str:
    """Saves the video of a row; why it could not be, or nothing."""
    try:
        farm.job(job_id).save(video_file(folder, row_id))
    except FarmError as error:
        return f"not saved: {error.code}: {error.message}"
    return ""
