"""What the profiles of compose.yaml add, started beside a running farm.

Grafana is not tried where its image cannot be pulled: no package has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from urllib3 import BaseHTTPResponse, PoolManager, make_headers

from tests.containers.project import Project

Profile = Callable[[Project], str]
"""Starts a profile and returns what it shows; raises AssertionError, or TimeoutError."""

SCRAPED = {"farm", "gateway", "workers"}
"""Jobs of docker/prometheus/compose.yaml."""


def monitor(project: Project) -> str:
    """Flower asks for its login, and lists the workers."""
    project.up("flower")
    address = project.variables["FLOWER_LISTEN"]
    assert _get(f"{address}/workers").status == 401
    login = project.variables["FARM_FLOWER_AUTH"]
    page = _get(f"{address}/workers", login).data.decode()
    found = [kind for kind in ("cpu@", "gpu@") if kind in page]
    assert found == ["cpu@", "gpu@"], page[-3000:]
    return "Flower refuses without its login, and lists both workers"


def observe(project: Project) -> str:
    """Prometheus scrapes exporter, gateway and workers, and has the alerts."""
    project.up("metrics", "prometheus")
    address = project.variables["PROMETHEUS_LISTEN"]
    targets = project.wait_for(lambda: _targets(address))
    (group, *_) = _json(f"{address}/api/v1/rules")["data"]["groups"]
    broken = [rule["name"] for rule in group["rules"] if rule["health"] == "err"]
    assert not broken
    return f"{len(targets)} targets are up, {len(group['rules'])} alerts are loaded"


def bridge(project: Project) -> str:
    """Without a key of Runpod it says what is missing."""
    project.compose("up", "--detach", "bridge")
    return project.wait_for(lambda: _line(project.log("bridge"), "RUNPOD_ENDPOINT_ID: not set"))


def gpu(project: Project) -> str:
    """Without a GPU the engine, or else the worker, says so."""
    said = project.compose("up", "--detach", "--no-deps", "gpu-0", check=False)
    assert "nvidia" in said, said
    image = "infinitetalk-farm:gpu"
    farm = [f"--env={name}={value}" for name, value in project.environ.items()]
    log = project.engine.run(
        *("run", "--rm", "--network=host", "--env=FARM_PRESETS=miniature", *farm),
        *("--env=FARM_HOME=/tmp", image, "worker", "gpu"),
        check=False,
    )
    reason = _line(log, "FARM_DEVICE: got")
    assert reason, log
    return reason


def weights(project: Project) -> str:
    """Without a way to the weights it says which host cannot be reached."""
    unreachable = ("--env", "HF_ENDPOINT=http://127.0.0.1:1")
    said = project.compose("run", "--rm", "-T", *unreachable, "weights", check=False)
    assert "Traceback" not in said, said
    return said.strip().splitlines()[-1]


PROFILES: dict[str, Profile] = {
    "monitor": monitor,
    "observe": observe,
    "bridge": bridge,
    "gpu": gpu,
    "weights": weights,
}
"""But for rabbitmq, which is a scenario."""


def try_all(project: Project) -> None:
    """Starts one profile after the other, prints what it shows, and removes it."""
    for name, profile in PROFILES.items():
        print(f"profile {name}: {profile(project)}", flush=True)
        project.compose("rm", "--stop", "--force", *SERVICES[name])


SERVICES = {
    "monitor": ("flower",),
    "observe": ("metrics", "prometheus"),
    "bridge": ("bridge",),
    "gpu": ("gpu-0",),
    "weights": ("weights",),
}
"""What a profile leaves running."""


def _get(url: str, login: str | None = None) -> BaseHTTPResponse:
    headers = make_headers(basic_auth=login) if login else None
    return PoolManager().request("GET", f"http://{url}", headers=headers, timeout=30)


def _json(url: str) -> Any:
    return json.loads(_get(url).data)


def _targets(address: str) -> list[str]:
    """The targets, once all jobs have some and all of them are up; before that none."""
    found = _json(f"{address}/api/v1/targets")["data"]["activeTargets"]
    if {each["labels"]["job"] for each in found} != SCRAPED:
        return []
    return (
        []
        if any(each["health"] != "up" for each in found)
        else [each["scrapeUrl"] for each in found]
    )


def _line(log: str, text: str) -> str:
    """The first line of a log that contains a text; empty without one."""
    return next((line for line in log.splitlines() if text in line), "")
