"""compose.yaml against the code, without an engine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.containers import CREATED, OPTIONAL
from farm.local.flower import flower_environ
from farm.monitoring.exporter import FarmCollector
from farm.route import CONSUMED
from farm.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
FARM = {name: each for name, each in SERVICES.items() if "IMAGE" in each["image"] and name != "s3"}
PROFILES = {"gpu", "weights", "bridge", "rabbitmq", "monitor", "observe"}
CELERY_ENDS_S = 6
"""What a drained worker may take besides its grace period (tasks/drain.py)."""

FARM_COMMAND = """\
#!/bin/sh
echo "farm $2 $3" >> {log}
case "$2" in
  check) test -d {folder}/$3 ;;
  convert) mkdir {folder}/$3 ;;
esac
"""
"""A `farm` that writes down how it was called; weights are there once they were converted."""


def settings_of(service: dict[str, Any]) -> set[str]:
    """The FARM_ variables that a service has."""
    return {name for name in service.get("environment", {}) if name.startswith(PREFIX)}


def unknown_settings(services: dict[str, dict[str, Any]]) -> set[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return {name for each in services.values() for name in settings_of(each)} - known


def test_every_variable_of_a_service_is_a_setting():
    assert unknown_settings(SERVICES) == set()


def test_a_variable_that_no_setting_has_is_found():
    planted = {**SERVICES, "cpu": {"environment": {"FARM_LEASE_SECONDS": "5"}}}
    assert unknown_settings(planted) == {"FARM_LEASE_SECONDS"}


def test_every_variable_that_compose_reads_is_in_the_example():
    read = set(re.findall(r"\$\{(\w+)", TEXT))
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert read - settings <= CREATED.keys() | OPTIONAL.keys()
    assert OPTIONAL.keys() - read == {"OMP_NUM_THREADS"}  # passed on as it is


def test_no_password_has_a_default():
    for variable in CREATED:
        forms = set(re.findall(rf"\$\{{{variable}([^}}]*)\}}", TEXT))
        assert forms == {":?run make .env"}, variable


def test_nothing_listens_beyond_loopback_until_told():
    ports = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert ports
    assert all(re.fullmatch(r"\$\{\w+_LISTEN:-127\.0\.0\.1:\d+\}:\d+", port) for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_limited(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert "privileged" not in service


@pytest.mark.parametrize("name", FARM)
def test_a_container_may_take_longer_to_stop_than_its_worker(name):
    grace = re.search(r"FARM_GRACE_S:-(\d+)", SERVICES["cpu"]["environment"]["FARM_GRACE_S"])
    if name in ("bucket", "weights"):
        return  # it ends by itself, and runs no worker
    stop_s = int(FARM[name]["stop_grace_period"].removesuffix("s"))
    assert grace
    assert stop_s >= int(grace[1]) + CELERY_ENDS_S + 30  # an upload


def test_the_s3_service_has_the_time_to_stop_that_it_needs():
    assert int(SERVICES["s3"]["stop_grace_period"].removesuffix("s")) >= 30


def test_no_bucket_is_created_or_looked_for_in_another_s3_service():
    assert SERVICES["bucket"]["environment"]["FARM_S3_ENDPOINT"] == "http://s3:8333"


SIZES = {"k": 2**10, "m": 2**20, "g": 2**30}


def bytes_of(size: str) -> int:
    """A size of compose.yaml, or the default of its variable."""
    plain = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", size)
    return int(plain[:-1]) * SIZES[plain[-1]]


@pytest.mark.parametrize("name", [name for name, each in SERVICES.items() if "tmpfs" in each])
def test_a_full_temporary_folder_is_found_before_the_container_is_killed_for_it(name):
    service = SERVICES[name]
    sizes = [re.search(r"size=([^,]+)", each)[1] for each in service["tmpfs"]]
    assert 1.4 * sum(map(bytes_of, sizes)) < bytes_of(service["mem_limit"])


def test_rabbitmq_finds_its_data_in_a_new_container():
    assert SERVICES["rabbitmq"]["environment"]["RABBITMQ_NODENAME"] == "rabbit@localhost"


def test_a_full_registry_refuses_to_write_before_it_is_killed():
    held_mb = int(OPTIONAL["REGISTRY_MAXMEMORY"][0].removesuffix("mb"))
    limit_mb = int(OPTIONAL["REGISTRY_MEMORY"][0].removesuffix("m"))
    assert f"REGISTRY_MAXMEMORY:-{held_mb}mb" in TEXT
    assert f"REGISTRY_MEMORY:-{limit_mb}m}}" in TEXT
    assert held_mb <= 0.8 * limit_mb  # the rest is for its copy while it rewrites its file


def test_uploads_fit_into_the_memory_of_the_page():
    uploads = OPTIONAL["FARM_UI_UPLOAD_BYTES"][0]
    limits = [OPTIONAL[name][0] for name in ("SCRATCH", "PAGE_MEMORY")]
    page = SERVICES["page"]
    assert page["environment"]["FARM_UI_UPLOAD_BYTES"] == f"${{FARM_UI_UPLOAD_BYTES:-{uploads}}}"
    assert page["mem_limit"] == f"${{PAGE_MEMORY:-{limits[1]}}}"
    assert all(int(uploads) <= int(limit.removesuffix("g")) * 2**30 / 2 for limit in limits)


def test_what_the_gateway_receives_fits_into_its_memory():
    received = Settings.model_fields["gateway_upload_bytes"].default
    assert SERVICES["gateway"]["mem_limit"] == "${GATEWAY_MEMORY:-3g}"
    for name in ("SCRATCH", "GATEWAY_MEMORY"):
        assert received <= int(OPTIONAL[name][0].removesuffix("g")) * 2**30 / 2


def test_the_keys_of_the_store_and_the_login_of_the_broker_are_where_they_are_needed():
    watching = {"metrics", "flower"}
    preparing = {"bucket", "weights"}
    settings = {name: settings_of(FARM[name]) for name in FARM.keys() - preparing}
    assert {name for name, each in settings.items() if "FARM_BROKER_API" in each} == watching
    stored = {name for name, each in settings.items() if "FARM_S3_SECRET_KEY" in each}
    assert stored == settings.keys() - watching
    assert all(FARM[name]["depends_on"].keys() == {"registry"} for name in watching)


def test_the_exporter_starts_with_the_settings_that_it_has(tmp_path):
    environ = SERVICES["metrics"]["environment"]
    assert {name for name, value in environ.items() if value} == {"FARM_BROKER_URL", "FARM_GRACE_S"}
    url = "redis://:password@127.0.0.1:1/0"
    FarmCollector(Settings.load({"FARM_HOME": str(tmp_path), "FARM_BROKER_URL": url}))


def test_flower_shows_what_it_shows_beside_a_local_farm():
    environ = SERVICES["flower"]["environment"]
    local = flower_environ(Settings.load({"FARM_BROKER_API": "http://rabbitmq:15672"}), {})
    assert environ["FLOWER_TASKS_COLUMNS"] == local["FLOWER_TASKS_COLUMNS"]
    form = "${FARM_BROKER_API:+${FARM_BROKER_API:-}/api/}"
    assert environ["FLOWER_BROKER_API"] == form
    assert local["FLOWER_BROKER_API"] == "http://rabbitmq:15672/api/"


def test_the_weights_are_pulled_once_into_the_volume_that_workers_read(tmp_path):
    weights = tmp_path / "weights"
    (weights / ".download").mkdir(parents=True)
    program = tmp_path / "farm"
    program.write_text(FARM_COMMAND.format(log=tmp_path / "log", folder=weights))
    program.chmod(0o755)
    service = SERVICES["weights"]
    script = service["entrypoint"][4].replace("$$", "$").replace("/weights/", f"{weights}/")
    command = [*service["entrypoint"][2:4], script, "weights", *service["command"]]
    for _ in range(2):
        environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(command, env=environ, check=True, timeout=60)
    calls = [line.split()[1:] for line in (tmp_path / "log").read_text().splitlines()]
    assert [call for call, _ in calls] == ["check", "pull", "convert", "check", "check"]
    assert {preset for _, preset in calls} == {"infinitetalk-480"}
    assert not (weights / ".download").exists()
    assert service["volumes"] == ["${WEIGHTS:-weights}:/weights"]
    assert SERVICES["gpu-0"]["volumes"] == ["${WEIGHTS:-weights}:/weights:ro"]


def test_whatever_takes_requests_or_calls_webhooks_has_their_secret():
    having = {name for name, each in FARM.items() if "FARM_WEBHOOK_SECRET" in settings_of(each)}
    assert having == {"cpu", "gateway", "page"}


def test_the_bridge_has_the_variables_that_its_errors_name():
    assert {"RUNPOD_API_KEY", "RUNPOD_ENDPOINT_ID"} <= SERVICES["bridge"]["environment"].keys()


def test_workers_are_of_kinds_that_there_are():
    kinds = {
        each["command"][1] for each in FARM.values() if each.get("command", [""])[0] == "worker"
    }
    assert kinds == {"cpu", "gpu", "bridge"} <= CONSUMED.keys()


def test_profiles_are_those_that_are_documented():
    assert {
        profile for each in SERVICES.values() for profile in each.get("profiles", [])
    } == PROFILES


def test_images_are_pinned_and_targets_exist():
    targets = set(re.findall(r"^FROM .* AS (\w+)$", (ROOT / "docker/Dockerfile").read_text(), re.M))
    for service in SERVICES.values():
        name, _, tag = service["image"].rpartition(":")
        assert tag not in ("", "latest")
        if "IMAGE" in name and tag != "s3":
            assert tag in targets


def test_prometheus_scrapes_services_that_there_are():
    scraped = yaml.safe_load((ROOT / "docker/prometheus/compose.yaml").read_text())
    (workers,) = (job for job in scraped["scrape_configs"] if "dns_sd_configs" in job)
    names = {name for each in workers["dns_sd_configs"] for name in each["names"]}
    assert names <= SERVICES.keys()
    assert {each["port"] for each in workers["dns_sd_configs"]} == {9100}
