"""`farm logs`."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from farm.client import Farm
from tests.support.cli import error_line


def line(second: int, event: str, job_id: str | None = None, **details: object) -> str:
    fields = {
        "ts": f"2026-11-30T15:00:{second:02}.000+00:00",
        "level": "WARN" if event == "store_retry" else "INFO",
        "job_id": job_id,
        "event": event,
        "details": details,
    }
    return json.dumps(fields)


@pytest.fixture
def folder(farm: Farm) -> Path:
    """The logs of a cpu and a gpu worker, and of the broker."""
    folder = farm.context.settings.folder / "logs"
    folder.mkdir(parents=True)
    (folder / "cpu.log").write_text(
        "\n".join([line(1, "job_accepted", "abc", gpu_s=3), line(4, "store_retry", "b\x1b2"), ""])
    )
    (folder / "gpu.log").write_text(
        "\n".join([line(2, "step_started", "abc"), "Warm shutdown", "{"])
    )
    (folder / "broker.log").write_text("Valkey is starting\n")
    return folder


def test_the_lines_of_all_processes_are_shown_in_the_order_of_their_times(run, folder):
    assert run("logs").stdout.splitlines() == [
        "broker  Valkey is starting",
        "15:00:01  cpu     abc       job_accepted  gpu_s=3",
        "15:00:02  gpu     abc       step_started",
        "gpu     Warm shutdown",
        "15:00:04  cpu     b\ufffd2       WARN  store_retry",
    ]
    assert len(run("logs", "-n", "2").stdout.splitlines()) == 2


def test_the_lines_of_one_job_are_shown_also_as_they_are(run, folder):
    lines = run("logs", "ab", "--json").stdout.splitlines()
    assert [json.loads(each)["event"] for each in lines] == ["job_accepted", "step_started"]


def test_logs_are_followed_until_ctrl_c(run, folder, monkeypatch):
    def write(_: float) -> None:
        with (folder / "gpu.log").open("a") as file:
            file.write(f"}}\n{line(5, 'step_committed', 'abc')}\n")
        (folder / "cpu.log").write_text(f"{line(6, 'rotated')}\n")
        monkeypatch.setattr("farm.cli.logs.time.sleep", Mock(side_effect=KeyboardInterrupt))

    monkeypatch.setattr("farm.cli.logs.time.sleep", write)
    result = run("logs", "--follow", "--lines", "1")
    assert result.exit_code == 0
    assert [each.split()[-1] for each in result.stdout.splitlines()] == [
        *("store_retry", "{}", "step_committed", "rotated")
    ]


def test_a_home_without_logs_is_one_line_and_status_2(run, folder):
    assert "it has no lines of job zzz" in error_line(run("logs", "zzz"))
