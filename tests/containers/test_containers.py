"""The images, and the farm of compose.yaml: one file, so that one process builds them."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from urllib3 import PoolManager

from tests.chaos.run import job_fields
from tests.containers.engine import Engine
from tests.containers.images import ROOT, python_image
from tests.containers.project import RUNNING
from tests.containers.run import run_all
from tests.containers.scenarios import SHORT
from tests.support.commands import run_farm_command

BUILT = ("light", "cpu")
BUDGET = tomllib.loads((Path(__file__).parent / "budget.toml").read_text())
BARE = ("--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
WRITABLE = ("--tmpfs", "/tmp", "--tmpfs", "/var/lib/farm:uid=10001,mode=0700")


def shell(engine: Engine, target: str, script: str) -> str:
    """What a script prints in an image, on a read-only root and without any capability."""
    image = f"infinitetalk-farm:{target}"
    return engine.run("run", *BARE, *WRITABLE, "--entrypoint", "sh", image, "-c", script)


def inspected(engine: Engine, image: str) -> dict[str, Any]:
    return dict(json.loads(engine.run("inspect", image))[0])


def layers(engine: Engine, target: str) -> dict[str, float]:
    """Megabytes of each layer above the base, by the folder that it copies, else `system`."""
    form = "{{.Size}} {{.CreatedBy}}"
    lines = engine.run(
        *("history", "--human=false", "--no-trunc", "--format", form, f"infinitetalk-farm:{target}")
    ).splitlines()
    base = engine.run("history", "--quiet", python_image()).splitlines()
    sizes: dict[str, float] = {}
    for line in lines[: len(lines) - len(base)]:
        size, _, command = line.partition(" ")
        copied = re.match(r"COPY (/opt\S+)", command)
        name = copied[1] if copied else "system"
        sizes[name] = sizes.get(name, 0) + int(size) / 1e6
    return sizes


@pytest.mark.parametrize("target", BUILT)
def test_a_command_runs_on_a_read_only_root_as_an_ordinary_user(engine, target):
    found = shell(engine, target, "id -u; id -g; farm --version; touch /opt/x 2>&1 || true")
    assert found.startswith("10001\n10001\n")
    assert "farm, version" in found
    assert "Read-only file system" in found


@pytest.mark.parametrize("target", BUILT)
def test_an_image_has_no_build_tool_no_cache_and_nothing_of_the_build(engine, target):
    tools = "for tool in gcc cc make ld uv git; do command -v $tool; done; true"
    caches = (
        "find / -xdev \\( -name .cache -o -name '*.whl' -o -name uv.toml -o -name pip.conf \\) "
        "-not -path '/proc/*' -not -path '*/ensurepip/*' -not -path '/usr/share/python-wheels/*' "
        "2>/dev/null; ls /var/lib/apt/lists; ls /src /opt/build 2>/dev/null; true"
    )
    assert shell(engine, target, tools) == ""
    assert shell(engine, target, caches) == ""
    history = engine.run("history", "--no-trunc", f"infinitetalk-farm:{target}")
    assert not re.search(r"find-links|password|secret_key", history, re.IGNORECASE)


@pytest.mark.parametrize("target", BUILT)
def test_an_image_says_what_it_is(engine, target):
    config = inspected(engine, f"infinitetalk-farm:{target}")["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["tini", "--", "farm"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.parametrize("target", BUILT)
def test_no_layer_exceeds_its_budget(engine, target):
    budget = BUDGET[target]
    found = layers(engine, target)
    assert found.keys() == budget.keys()
    assert [name for name, size in found.items() if size > budget[name]] == []


def test_the_light_image_is_light(engine):
    size = inspected(engine, "infinitetalk-farm:light")["Size"] / 1e6
    assert size < BUDGET["total"]["light"]


def test_a_probe_compiles_nothing_in_its_container(engine):
    probe = (
        "mkdir -p /tmp/h && touch /tmp/h/alive; export FARM_HEALTH_FOLDER=/tmp/h; "
        'python -v "$(command -v farm)" health --live 2>&1'
    )
    loaded = re.findall(r"code object from (\S+)", shell(engine, "cpu", probe))
    assert loaded
    assert [path for path in loaded if not path.rstrip("'").endswith(".pyc")] == []


def test_compose_makes_a_video_for_farm_submit_on_the_host(project, tmp_path):
    request = ROOT / "examples" / "single_image.json"
    video = tmp_path / "video.mp4"
    words = ("submit", "--request", str(request), "--max-frame-num", "21")
    run_farm_command(project.environ, *words, "--wait", "--output", str(video))
    assert video.read_bytes()[4:8] == b"ftyp"


def test_compose_makes_a_video_through_the_gateway(project, tmp_path):
    key = project.compose("exec", "-T", "gateway", "cat", "/keys/first").strip()
    url = f"http://{project.variables['GATEWAY_LISTEN']}/v2/farm"
    request = str(ROOT / "examples" / "single_image.json")
    envelope = tmp_path / "envelope.json"
    words = ("--request", request, "--max-frame-num", "21", "--envelope", "-o", str(envelope))
    run_farm_command(project.environ, "payload", *words)
    answer = PoolManager().request(
        *("POST", f"{url}/runsync?wait=300000"),
        body=envelope.read_bytes(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        timeout=310,
    )
    found = answer.json()
    assert found.get("status") == "COMPLETED", found


def test_no_service_runs_with_a_privilege(project):
    for service in RUNNING:
        (container,) = project.containers(service)
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["Memory"] > 0, service
        assert container["Config"]["User"] not in ("", "0", "root"), service


def test_sigterm_in_a_denoise_step_releases_the_step_uncounted(project):
    farm = project.farm
    job = farm.submit({**job_fields(project.folder), "sample_steps": 1000})
    project.wait_for_chunk(job, 0)
    project.compose("stop", "gpu")
    (gpu,) = project.containers("gpu")
    assert gpu["State"]["ExitCode"] == 0
    lease = farm.context.registry.steps.acquire(job.id, "generate-0000", lease_s=60, max_attempts=9)
    assert lease is not None
    assert lease.attempts == 1
    job.cancel()
    project.start("gpu")


def test_no_job_is_lost_or_committed_twice_whatever_service_dies(project):
    outcomes = list(run_all(project, SHORT))
    assert [outcome for outcome in outcomes if not outcome.good] == []
