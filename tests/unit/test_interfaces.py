"""The front door is short and light, and rooms know only what they need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import farm

HEAVY = {"torch", "diffusers", "transformers", "librosa", "gradio", "av", "scipy", "numba", "PIL", "pyloudnorm"}
MOST_S = 0.5
"""Seconds of a processor that the client's import may take."""


def python(program: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )


def loaded_by(program: str) -> set[str]:
    """The top-level packages in memory after a program."""
    return set(python(f"{program}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})").stdout.split())


def seconds_of_the_client() -> float:
    """Of a processor, which other work on this machine does not make more of."""
    timed = "from time import process_time as now; began = now(); import farm.client; print(now() - began)"
    return float(python(timed).stdout)


def test_the_public_names_are_these():
    assert farm.__all__ == ["Event", "Farm", "FarmError", "Job", "JobRequest", "JobStatus", "Result"]


@pytest.mark.parametrize("name", farm.__all__)
def test_a_public_name_is_what_it_says(name):
    assert getattr(farm, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'farm' has no attribute 'Barn'"):
        _ = farm.Barn


def test_the_package_itself_loads_nothing():
    assert not loaded_by("import farm") & {*HEAVY, "pydantic", "celery", "redis"}


def test_the_client_is_imported_in_no_time():
    assert min(seconds_of_the_client() for _ in range(3)) < MOST_S


@pytest.mark.parametrize("door", ["farm.client", "farm.cli", "farm.client.transports.celery"])
def test_a_door_leaves_what_is_heavy_outside(door):
    assert not loaded_by(f"import {door}") & HEAVY


@pytest.mark.parametrize("door", ["farm.client", "farm.cli", "farm.client.transports.celery", "farm.local.supervisor"])
def test_a_door_leaves_the_numbers_library_outside(door):
    assert "prometheus_client" not in loaded_by(f"import {door}")


def test_the_task_modules_leave_the_model_outside():
    loaded = python(
        "from tasks import app; app.loader.import_default_modules(); import sys; print(*sys.modules)",
        FARM_BROKER_URL="redis://127.0.0.1:1/0",
    )
    assert not {"torch", "diffusers", "transformers", "prometheus_client"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    ("room", "foreign"),
    [
        ("farm.model.pipeline", "celery redis kombu pydantic minio gradio prometheus_client runpod"),
        ("farm.media.probe", "celery redis kombu pydantic torch"),
        ("farm.plan", "celery redis kombu pydantic torch numpy"),
    ],
)
def test_a_room_stands_without_what_it_need_not_know(room, foreign):
    refusing = f"import sys; sys.modules.update(dict.fromkeys({foreign.split()!r}))"  # None there refuses an import
    assert python(f"{refusing}; import {room}; print('stands')").stdout == "stands\n"


def test_importing_every_door_makes_no_file(tmp_path):
    python("import farm.client, farm.cli, farm.local.supervisor", HOME=str(tmp_path), FARM_HOME=str(tmp_path / "farm"))
    assert list(tmp_path.iterdir()) == []
