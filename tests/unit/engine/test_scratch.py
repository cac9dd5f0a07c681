"""Scratch folders: removed with their attempt, and found if their worker was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from farm.engine import scratch
from farm.engine.scratch import LOCK, MIN_AGE_S, abandoned, scratch_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    """Makes a folder too old to be one that is about to be locked."""
    old = folder.stat().st_mtime - MIN_AGE_S - 1
    os.utime(folder, (old, old))


def killed_worker(temporary: Path) -> Path:
    """The folder of a process that was killed while it worked in it."""
    program = """
        import time
        from farm.engine.scratch import scratch_folder

        with scratch_folder("a") as folder:
            (folder / "image").write_bytes(bytes(1000))
            print(folder, flush=True)
            time.sleep(60)
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    folder = Path(worker.stdout.readline().strip())
    assert list(abandoned()) == []
    age(folder)
    assert list(abandoned()) == [], "its process lives"
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    return folder


def test_a_folder_is_removed_when_its_block_ends(temporary):
    with scratch_folder("a") as folder:
        (folder / "image").write_bytes(b"pixels")
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_a_folder_is_removed_when_its_block_is_interrupted(temporary):
    with pytest.raises(SystemExit), scratch_folder("a"):
        raise SystemExit
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_worker_is_found_and_removed(temporary):
    folder = killed_worker(temporary)
    assert list(abandoned()) == [folder]
    assert scratch.size(folder) == 1000
    for each in abandoned():
        scratch.remove(each)
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_worker_is_removed_by_the_next_attempt(temporary):
    killed_worker(temporary)
    with scratch_folder("b") as folder:
        assert list(temporary.iterdir()) == [folder]


def test_a_folder_in_use_is_not_abandoned():
    with scratch_folder("a") as folder:
        age(folder)
        assert list(abandoned()) == []


def test_a_new_folder_is_not_abandoned(temporary):
    folder = temporary / "farm-a-0123"
    folder.mkdir()
    (folder / LOCK).touch()
    assert list(abandoned()) == []
    age(folder)
    assert list(abandoned()) == [folder]


def test_a_fifo_in_place_of_a_lock_is_not_waited_for(temporary):
    (temporary / "farm-evil").mkdir()
    os.mkfifo(temporary / "farm-evil" / LOCK)
    age(temporary / "farm-evil")
    assert list(abandoned()) == []


def test_links_are_not_followed(temporary):
    # Given a folder that looks abandoned, but elsewhere, and links that lead there
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    age(elsewhere)
    (temporary / "farm-link").symlink_to(elsewhere)
    (temporary / "farm-inside").mkdir()
    (temporary / "farm-inside" / LOCK).symlink_to(elsewhere / LOCK)
    age(temporary / "farm-inside")
    os.utime(temporary / "farm-link", (0, 0), follow_symlinks=False)
    # Then neither is taken for a scratch folder
    assert list(abandoned()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_folder_of_another_user_is_left_alone(temporary):
    folder = temporary / "farm-a-0123"
    folder.mkdir()
    (folder / LOCK).touch()
    age(folder)
    os.chown(folder, 65534, -1)
    assert list(abandoned()) == []


@pytest.mark.parametrize("name", ["farm-machinery", "other"])
def test_folders_of_other_programs_are_left_alone(temporary, name):
    (temporary / name).mkdir()
    os.utime(temporary / name, (0, 0))
    assert list(abandoned()) == []
