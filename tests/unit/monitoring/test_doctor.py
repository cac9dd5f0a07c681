"""`farm doctor`: its findings on a healthy machine and on faulty ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from click.testing import CliRunner

from farm import Farm
from farm.cli import cli
from farm.local.supervisor import lock_home
from farm.model.weights.fingerprint import UNREMEMBERED, checkpoint_fingerprint
from farm.monitoring.doctor import Finding, run_checks
from farm.presets import MINIATURE, preset
from farm.queue.dead_letters import store_dead_letter
from farm.registry import open_registry
from farm.settings import Settings
from tests.support.commands import run_python
from tests.support.jobs import REQUEST

Check = Callable[..., dict[str, Finding]]


@pytest.fixture
def findings(broker: str, tmp_path: Path) -> Check:
    """Returns the findings with changed settings, by the names of their checks."""

    def check(*, deep: bool = False, **changes: object) -> dict[str, Finding]:
        settings = Settings(home=tmp_path / "home", broker_url=broker).model_copy(update=changes)
        return {each.check: each for each in run_checks(settings, deep=deep)}

    return check


def test_everything_that_a_farm_needs_is_checked(findings):
    statuses = {name: finding.status for name, finding in findings(deep=True).items()}
    assert statuses.pop("gpu") in ("ok", "warning")
    assert statuses.pop("disk") in ("ok", "warning")
    names = ["broker", "registry", "clock", "jobs", "reaper", "queues", "store", "identity"]
    healthy = dict.fromkeys([*names, "models", "weights", "attention", "ffmpeg"], "ok")
    assert statuses == {**healthy, "workers": "error"}, "there are no workers"


def test_attention_kernels_are_shown_with_the_reason_of_those_that_do_not_work(findings):
    finding = findings(deep=True, attention="flash_4")["attention"]
    assert finding.status == "error"
    assert "usable: native" in finding.message
    assert "flash_4: ModuleNotFoundError: No module named 'flash_attn'" in finding.message


def test_the_identity_of_a_farm_is_shown_and_a_store_of_another_one_is_an_error(
    findings, broker, tmp_path
):
    assert findings()["identity"].message == "farm, new"
    farm = Farm(broker, settings=Settings(home=tmp_path / "home"))
    assert list(farm.recover()) == []
    shown = findings()["identity"]
    assert (shown.status, shown.message.endswith(" in store and registry")) == ("ok", True)
    wrong = findings(store_url=(tmp_path / "other").as_uri())["identity"]
    assert wrong.status == "error"
    assert wrong.message.startswith("FARM_STORE_URL, FARM_BROKER_URL, FARM_NAME: ")


def test_missing_workers_are_an_error_with_their_commands(findings):
    workers = findings()["workers"]
    assert (workers.message, workers.remedy) == (
        "0 cpu, 0 gpu, 0 downloads",
        "farm worker cpu and farm worker gpu",
    )


def test_while_a_farm_starts_its_workers_are_waited_for(findings, tmp_path):
    assert findings()["workers"].remedy.startswith("farm worker cpu")
    with lock_home(Settings(home=tmp_path / "home")):
        assert findings()["workers"].remedy.startswith("wait: `farm up` is starting them")
    assert findings()["workers"].remedy.startswith("farm worker cpu")


def test_workers_are_counted_by_their_heartbeats(findings, broker):
    registry = open_registry(broker)
    for name in ("cpu here 1", "cpu there 1", "gpu here 2"):
        registry.workers.heartbeat(name)
    no_downloads = Finding("workers", "error", "2 cpu, 1 gpu, 0 downloads", "farm worker downloads")
    assert findings()["workers"] == no_downloads
    registry.workers.heartbeat("downloads here 1")
    registry.workers.heartbeat("gpu-local here 2")
    assert findings()["workers"] == Finding("workers", "ok", "2 cpu, 1 gpu, 1 downloads")


def test_a_farm_whose_gpus_are_all_rented_is_warned_of_jobs_that_must_stay(findings, broker):
    registry = open_registry(broker)
    for name in ("cpu here 1", "downloads here 1", "gpu here 2 10", "bridge here 2"):
        registry.workers.heartbeat(name)
    workers = findings()["workers"]
    assert workers.status == "warning"
    assert workers.message.startswith("1 cpu, 10 gpu, 1 downloads, all gpu workers those of")


def test_the_models_of_the_farm_are_shown_with_what_they_are_good_for(findings, broker):
    assert findings()["models"] == Finding("models", "ok", f"miniature for {MINIATURE.good_for}")
    open_registry(broker).workers.announce(["flashtalk"])
    assert findings()["models"].message == f"flashtalk for {preset('flashtalk').good_for}"


def test_gpu_workers_that_could_not_load_their_model_are_counted(findings, broker):
    workers = open_registry(broker).workers
    for name in ("gpu here 1", "gpu there 2", "gpu here 3 10"):  # the last one is a bridge
        workers.heartbeat(name)
    workers.report_cold("gpu there 2")
    assert findings()["models"] == Finding(
        "models",
        "warning",
        "1 of 2 gpu workers could not load their model, such as 2 on there",
        "warm_up_failed in its log says why; `farm logs` shows that of `farm up`",
    )
    workers.report_cold("gpu here 1")
    assert findings()["models"].status == "error"


def test_an_unreachable_broker_is_an_error_and_the_rest_is_checked(findings):
    found = findings(broker_url="redis://:secret@127.0.0.1:1/0")
    statuses = [found[name].status for name in ("broker", "clock", "jobs", "workers", "store")]
    assert statuses == ["error", "error", "error", "error", "ok"]
    assert found["clock"].message == "not known, for the reason of broker"
    assert "no broker answers at 127.0.0.1:1" in found["broker"].message
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("appendonly", "no", "set appendonly yes"),
        ("maxmemory-policy", "allkeys-lru", "set maxmemory-policy noeviction"),
    ],
)
def test_a_broker_that_can_lose_jobs_is_a_warning(findings, broker, name, value, remedy):
    with redis.Redis.from_url(broker) as client:
        (before,) = client.config_get(name).values()
        client.config_set(name, value)
        try:
            finding = findings()["broker"]
        finally:
            client.config_set(name, before)
    assert (finding.status, remedy in finding.remedy) == ("warning", True)


def test_a_rabbitmq_and_its_registry_are_checked_each(findings, broker, vhost, rabbitmq):
    found = findings(broker_url=vhost, registry_url=broker)
    assert found["broker"].status == "ok"
    assert found["broker"].message.startswith("RabbitMQ 4.")
    assert "not known without FARM_BROKER_API" in found["broker"].message
    assert (found["registry"].status, found["clock"].status) == ("ok", "ok")
    assert (
        "FARM_BROKER_API"
        not in findings(broker_url=vhost, registry_url=broker, broker_api=rabbitmq.api)[
            "broker"
        ].message
    )
    no_api = findings(
        broker_url=vhost, registry_url=broker, broker_api="http://a:secret@127.0.0.1:1"
    )["broker"]
    assert (no_api.status, "FARM_BROKER_API: " in no_api.message) == ("warning", True)
    assert "secret" not in no_api.message
    down = findings(broker_url=vhost, registry_url="redis://127.0.0.1:1")
    assert down["registry"].message.startswith("no registry answers at 127.0.0.1:1")
    assert down["broker"].status == "ok"


def test_an_alarm_of_rabbitmq_is_an_error_that_names_the_resource(
    findings, broker, vhost, rabbitmq
):
    with rabbitmq.alarm("disk"):
        finding = findings(broker_url=vhost, registry_url=broker, broker_api=rabbitmq.api)["broker"]
    assert finding.status == "error"
    assert finding.message.endswith("takes no messages: too little disk")


def test_a_rabbitmq_without_a_registry_is_an_error_that_names_the_setting(findings, vhost):
    found = findings(broker_url=vhost)
    assert found["registry"].status == "error"
    assert found["registry"].message.startswith("FARM_REGISTRY_URL: it is not set")


def test_a_broker_that_has_evicted_keys_is_an_error(findings, broker):
    with redis.Redis.from_url(broker) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_000_000)
        try:
            for number in range(30):
                client.set(f"key {number}", bytes(100_000))
            finding = findings()["broker"]
        finally:
            client.config_set("maxmemory", 0)
            client.config_set("maxmemory-policy", "noeviction")
            client.config_resetstat()
    assert (finding.status, "has evicted" in finding.message) == ("error", True)
    assert "farm recover" in finding.remedy


@pytest.mark.parametrize("lost", ["live", "jobs", "remaining_gpu_s", "request:a", "job:a"])
def test_a_job_of_which_the_broker_has_lost_a_part_is_an_error(findings, broker, lost):
    registry = open_registry(broker)
    registry.entries.add("a", REQUEST)
    assert findings()["jobs"] == Finding("jobs", "ok", "1 live, none incomplete")
    with redis.Redis.from_url(broker) as client:
        client.delete(f"farm:{lost}")
    finding = findings()["jobs"]
    assert (finding.status, finding.message) == (
        "error",
        "1 of which the registry has lost a part, such as a",
    )
    assert "farm recover" in finding.remedy


def test_jobs_that_have_ended_are_not_incomplete(findings, broker):
    registry = open_registry(broker)
    registry.entries.add("a", REQUEST)
    registry.jobs.cancel("a", by="a test")
    registry.jobs.close("a")
    assert findings()["jobs"] == Finding("jobs", "ok", "0 live, none incomplete")


def test_a_job_that_no_reaper_dispatches_stands_still(findings, broker, monkeypatch):
    registry = open_registry(broker)
    registry.entries.add("a", REQUEST)
    assert findings()["reaper"].status == "ok"
    monkeypatch.setattr("farm.monitoring.doctor.STANDSTILL_S", 0.0)
    finding = findings()["reaper"]
    assert finding.status == "error"
    assert finding.message.endswith("such as a")
    registry.steps.claim_dispatch("a", "download")
    assert findings()["reaper"].status == "ok"


def test_messages_that_wait_for_long_or_are_unreadable_are_a_warning(findings, broker, monkeypatch):
    registry = open_registry(broker)
    registry.entries.add("a", REQUEST)
    registry.steps.claim_dispatch("a", "download")
    assert findings()["queues"].status == "ok"
    monkeypatch.setattr("farm.monitoring.doctor.LATE_S", 0.0)
    assert findings()["queues"].message.startswith("1 messages wait")
    store_dead_letter(registry, "nonsense")
    assert findings()["queues"].message.startswith("1 messages that no step")


@pytest.mark.parametrize(
    ("script", "status", "shown"),
    [
        ("echo 'NVIDIA H200, 100 MiB, 200 MiB'", "ok", "NVIDIA H200, 100 MiB, 200 MiB"),
        ("echo no driver >&2; exit 9", "error", "no driver"),
        (None, "warning", "no nvidia-smi"),
    ],
)
def test_the_gpu_is_asked_of_its_driver(findings, tmp_path, monkeypatch, script, status, shown):
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = findings()["gpu"]
    assert finding.status == status
    assert shown in finding.message


def test_the_quick_checks_do_not_load_torch(broker, tmp_path):
    program = """
        import os, sys
        from farm.monitoring.doctor import run_checks
        from farm.settings import Settings
        print(len(list(run_checks(Settings.load(os.environ)))), "torch" in sys.modules)
    """
    done = run_python(program, FARM_HOME=str(tmp_path), FARM_BROKER_URL=broker)
    assert done.stdout == "14 False\n"


def test_a_wrong_clock_is_a_warning(findings, monkeypatch):
    right = findings()["clock"]
    assert right.status == "ok"
    monkeypatch.setattr("farm.monitoring.doctor.MAX_CLOCK_SKEW_S", -1)
    wrong = findings()["clock"]
    assert (wrong.status, "NTP" in wrong.remedy) == ("warning", True)


def test_an_unwritable_store_is_an_error(findings, tmp_path):
    (tmp_path / "file").touch()
    finding = findings(store_url=(tmp_path / "file").as_uri())["store"]
    assert (finding.status, "could not take" in finding.message) == ("error", True)


def test_an_unexpected_exception_is_an_error_and_the_rest_is_checked(findings):
    found = findings(store_url="file:///no%00path")
    assert found["store"].status == "error"
    assert found["store"].message == "ValueError: embedded null byte"
    assert (found["clock"].status, found["weights"].status) == ("ok", "ok")


def test_the_check_leaves_nothing_in_the_store(findings, tmp_path):
    findings()
    assert [path for path in (tmp_path / "home" / "store").rglob("*") if path.is_file()] == []


def test_the_fingerprint_of_the_weights_is_shown(findings, tmp_path):
    fingerprint = checkpoint_fingerprint(MINIATURE.folder(tmp_path), UNREMEMBERED)
    assert fingerprint in findings(deep=True)["weights"].message


@pytest.mark.parametrize("deep", [False, True])
def test_missing_weights_are_an_error(findings, deep):
    finding = findings(deep=deep, presets=("infinitetalk-480",))["weights"]
    assert (finding.status, "farm weights pull" in finding.remedy) == ("error", True)


@pytest.mark.parametrize(("free_gb", "status"), [(0.5, "error"), (5, "warning"), (50, "ok")])
def test_free_disk_space_is_checked(findings, monkeypatch, free_gb, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gb * 1e9))
    finding = findings()["disk"]
    assert (finding.status, bool(finding.remedy)) == (status, status != "ok")


def test_an_error_is_status_1(broker, tmp_path):
    environ = {"FARM_HOME": str(tmp_path), "FARM_BROKER_URL": broker}
    result = CliRunner().invoke(cli, ["doctor"], env=environ)
    assert result.exit_code == 1
    assert "error    workers   0 cpu, 0 gpu, 0 downloads\n" in result.stdout
    assert "-> farm worker cpu and farm worker gpu" in result.stdout
    lines = CliRunner().invoke(cli, ["doctor", "--json"], env=environ).stdout.splitlines()
    assert json.loads(lines[0])["check"] == "broker"


def test_the_contract_is_printed_as_a_schema():
    schema = json.loads(CliRunner().invoke(cli, ["schema"]).stdout)
    assert schema["properties"]["sample_steps"]["anyOf"][0]["maximum"] == 1000
    assert schema["required"] == ["cond_video"]
