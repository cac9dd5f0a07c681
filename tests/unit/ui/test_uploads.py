"""The folder of uploads."""

from __future__ import annotations

import os

import pytest
from starlette.exceptions import HTTPException

from farm.ui import uploads as module
from farm.ui.uploads import Uploads

FOLDER_BYTES = 1_000_000
"""More than the folders themselves take."""


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path, max_bytes=10 * FOLDER_BYTES)


def upload(uploads, name, size, *, age_s=0):
    """A file as Gradio keeps it: in a folder that is named by its content."""
    folder = uploads.folder / name
    folder.mkdir()
    (folder / "face.png").write_bytes(bytes(size))
    os.utime(folder, (1_000_000 - age_s,) * 2)


def kept(uploads):
    return sorted(path.name for path in uploads.folder.iterdir())


def test_the_oldest_uploads_make_room(uploads):
    for age_s, name in enumerate(["new", "old", "oldest"]):
        upload(uploads, name, 3 * FOLDER_BYTES, age_s=age_s)
    with uploads.room(3 * FOLDER_BYTES):
        assert kept(uploads) == ["new", "old"]


def test_nothing_is_deleted_while_there_is_room(uploads):
    upload(uploads, "a", 3 * FOLDER_BYTES)
    with uploads.room(3 * FOLDER_BYTES):
        assert kept(uploads) == ["a"]


def test_uploads_that_arrive_at_once_share_the_room(uploads):
    upload(uploads, "a", 3 * FOLDER_BYTES)
    with uploads.room(4 * FOLDER_BYTES), uploads.room(4 * FOLDER_BYTES):
        assert kept(uploads) == []


def test_more_than_fits_is_refused_until_another_has_arrived(uploads):
    with uploads.room(6 * FOLDER_BYTES):
        with pytest.raises(HTTPException) as refused, uploads.room(6 * FOLDER_BYTES):
            pass
        assert refused.value.status_code == 503
    with uploads.room(6 * FOLDER_BYTES):
        pass


def test_the_number_of_uploads_is_limited(uploads, monkeypatch):
    monkeypatch.setattr(module, "MAX_UPLOADS", 3)
    for age_s in range(5):
        upload(uploads, f"age {age_s}", 1, age_s=age_s)
    with uploads.room(1):
        assert kept(uploads) == ["age 0", "age 1"]


def test_files_of_uploads_that_were_broken_off_are_deleted_too(uploads):
    for age_s in range(3):
        path = uploads.folder / f"part {age_s}"
        path.write_bytes(bytes(4 * FOLDER_BYTES))
        os.utime(path, (1_000_000 - age_s,) * 2)
    with uploads.room(FOLDER_BYTES):
        assert kept(uploads) == ["part 0", "part 1"]
