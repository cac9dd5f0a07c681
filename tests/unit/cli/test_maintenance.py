"""`farm recover` and `farm gc`."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from farm.cli.exit_codes import INVALID_INPUT
from farm.store import keys
from tests.support.attempts import FIRST
from tests.support.jobs import FIELDS


def test_recover_prints_the_outcome_of_each_job(run, farm):
    # given a live job and a cancelled one, both lost by the broker
    first, second = sorted(farm.submit(FIELDS).id for _ in range(2))
    run("cancel", second)
    with farm.context.registry.backend.redis as client:
        client.flushall()
    # then both are restored, once
    lines = [f"{first}  resumed        download", f"{second}  already_ended  cancelled"]
    result = run("recover")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [*lines, "jobs in the store: 1 already_ended, 1 resumed"]
    assert run("recover").stdout.splitlines() == [
        f"{first}  known",
        f"{second}  known",
        "jobs in the store: 2 known",
    ]
    assert run("cancel", first).stdout == "cancelled\n"


def test_recover_as_json_is_a_line_for_each_job(run, farm):
    job = farm.submit(FIELDS)
    (line,) = run("recover", "--json").stdout.splitlines()
    assert json.loads(line) == {"job_id": job.id, "outcome": "known", "reason": None, "kept": 0}


def test_recover_of_an_empty_store_prints_none(run):
    assert run("recover").stdout == "jobs in the store: none\n"


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder without the scratch folders of other farms."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("empty_machine")
def test_gc_lists_with_dry_run_and_then_removes(run, farm):
    job = farm.submit(FIELDS)
    farm.context.store.put(keys.attempt(job.id, "download", FIRST, "image"), bytes(2_000_000))
    job.cancel()
    at_once = {"FARM_KEEP_INTERMEDIATES_S": "0"}
    line = f"intermediate      1       2.000 MB  jobs/{job.id}/"
    printed = [run("gc", *args, **at_once).stdout.splitlines() for args in (["--dry-run"], [], [])]
    assert printed == [
        [line, "would remove      1       2.000 MB"],
        [line, "removed           1       2.000 MB"],
        ["removed           0       0.000 MB"],
    ]


@pytest.mark.usefixtures("empty_machine")
def test_gc_as_json_is_a_line_for_each_removal(run, farm):
    job = farm.submit(FIELDS)
    farm.context.store.put(keys.attempt(job.id, "download", FIRST, "image"), b"bytes")
    job.cancel()
    (line,) = run("gc", "--json", FARM_KEEP_INTERMEDIATES_S="0").stdout.splitlines()
    assert json.loads(line) == {
        "reason": "intermediate",
        "name": f"jobs/{job.id}/",
        "objects": 1,
        "bytes": 5,
    }


def test_a_bucket_is_created_for_the_store_of_the_settings(run, swift):
    settings = swift.settings()
    variables = {
        "FARM_STORE_URL": f"s3://made-{uuid.uuid4().hex}",
        "FARM_S3_ENDPOINT": settings.s3_endpoint,
        "FARM_S3_ACCESS_KEY": settings.s3_access_key,
        "FARM_S3_SECRET_KEY": settings.s3_secret_key,
    }
    name = variables["FARM_STORE_URL"].removeprefix("s3://")
    assert run("bucket", **variables).stdout == f"{name} was created\n"
    assert run("bucket", **variables).stdout == f"{name} is there\n"


def test_a_store_without_a_bucket_is_refused(run):
    result = run("bucket", FARM_STORE_URL="file:///data")
    assert result.exit_code == INVALID_INPUT
    assert "FARM_STORE_URL: got 'file:///data'; allowed: s3://bucket/prefix" in result.stderr
