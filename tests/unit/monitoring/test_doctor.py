"""What `farm doctor` finds where something is missing, and where nothing is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from click.testing import CliRunner

from farm.cli import cli
from farm.monitoring.doctor import Finding, run_checks
from farm.settings import Settings

Found = Callable[..., dict[str, Finding]]


@pytest.fixture
def found(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    """What is found with these settings, by name."""
    monkeypatch.setattr("farm.monitoring.doctor.ANSWER_S", 0.2)

    def look(**changes: object) -> dict[str, Finding]:
        settings = Settings(home=tmp_path / "home", broker_url=broker).model_copy(update=changes)
        return {each.what: each for each in run_checks(settings)}

    return look


def test_all_that_a_farm_needs_is_looked_at(found):
    states = {name: each.state for name, each in found().items()}
    assert states.pop("gpu") in ("fine", "odd")
    assert states.pop("disk") in ("fine", "odd")
    well = dict.fromkeys(["broker", "clock", "store", "weights", "ffmpeg"], "fine")
    assert states == {**well, "workers": "broken"}, "nobody works here"


def test_workers_that_are_missing_are_named_with_their_commands(found):
    workers = found()["workers"]
    assert (workers.said, workers.remedy) == ("0 cpu, 0 gpu", "farm worker cpu and farm worker gpu")


def test_a_broker_that_does_not_answer_is_broken_and_the_rest_is_looked_at(found):
    seen = found(broker_url="redis://:secret@127.0.0.1:1/0")
    assert [seen[name].state for name in ("broker", "clock", "workers", "store")] == ["broken"] * 3 + ["fine"]
    assert "no broker answers at 127.0.0.1:1" in seen["broker"].said
    assert "secret" not in str(seen)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("appendonly", "no", "set appendonly yes"),
        ("maxmemory-policy", "allkeys-lru", "set maxmemory-policy noeviction"),
    ],
)
def test_a_broker_that_may_lose_jobs_is_odd(found, broker, name, value, remedy):
    with redis.Redis.from_url(broker) as client:
        (before,) = client.config_get(name).values()
        client.config_set(name, value)
        try:
            seen = found()["broker"]
        finally:
            client.config_set(name, before)
    assert (seen.state, remedy in seen.remedy) == ("odd", True)


def test_a_clock_that_is_wrong_is_odd(found, monkeypatch):
    right = found()["clock"]
    assert right.state == "fine"
    monkeypatch.setattr("farm.monitoring.doctor.CLOCK_S", -1)
    wrong = found()["clock"]
    assert (wrong.state, "NTP" in wrong.remedy) == ("odd", True)


def test_a_store_that_takes_nothing_is_broken(found, tmp_path):
    (tmp_path / "file").touch()
    seen = found(store_url=(tmp_path / "file").as_uri())["store"]
    assert (seen.state, "could not take" in seen.said) == ("broken", True)


def test_what_nobody_foresaw_is_broken_and_the_rest_is_looked_at(found):
    seen = found(store_url="file:///no%00path")
    assert (seen["store"].state, seen["store"].said) == ("broken", "ValueError: embedded null byte")
    assert (seen["clock"].state, seen["weights"].state) == ("fine", "fine")


def test_nothing_is_left_in_the_store(found, tmp_path):
    found()
    assert [path for path in (tmp_path / "home" / "store").rglob("*") if path.is_file()] == []


def test_weights_that_are_missing_are_broken(found):
    seen = found(preset="infinitetalk-480")["weights"]
    assert (seen.state, "farm weights pull" in seen.remedy) == ("broken", True)


@pytest.mark.parametrize(("free_gb", "state"), [(0.5, "broken"), (5, "odd"), (50, "fine")])
def test_room_on_the_disk_is_judged(found, monkeypatch, free_gb, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gb * 1e9))
    seen = found()["disk"]
    assert (seen.state, bool(seen.remedy)) == (state, state != "fine")


def test_what_is_broken_is_status_1(broker, tmp_path, monkeypatch):
    monkeypatch.setattr("farm.monitoring.doctor.ANSWER_S", 0.2)
    environ = {"FARM_HOME": str(tmp_path), "FARM_BROKER_URL": broker}
    told = CliRunner().invoke(cli, ["doctor"], env=environ)
    assert told.exit_code == 1
    assert "broken  workers   0 cpu, 0 gpu\n" in told.stdout
    assert "-> farm worker cpu and farm worker gpu" in told.stdout
    lines = CliRunner().invoke(cli, ["doctor", "--json"], env=environ).stdout.splitlines()
    assert json.loads(lines[0])["what"] == "broker"


def test_the_contract_is_printed_as_a_schema():
    schema = json.loads(CliRunner().invoke(cli, ["schema"]).stdout)
    assert schema["properties"]["sample_steps"]["maximum"] == 1000
    assert schema["required"] == ["prompt", "cond_video"]
