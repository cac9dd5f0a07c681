"""The few lines of shell and Python in the manifests do what they say."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from k8s.checks.manifests import Manifest, workloads
from tests.unit.k8s.conftest import Render

FARM = """\
#!/bin/sh
echo "$@" >> {log}
case "$2" in
  check) test -d {folder} ;;
  convert) mkdir {folder} ;;
esac
"""
"""A `farm` that writes down how it was called; weights are there once they were converted."""


def script(
    manifests: list[Manifest], name: str, *, first: bool = False, **paths: Path
) -> list[str]:
    """The command of a container, with folders of the test instead of the container's."""
    (workload,) = [each for each in workloads(manifests) if each.name == name]
    container: Any = workload.containers[0] if first else workload.main
    *options, text = [*container["command"], *container["args"]]
    folders = {f"/{name.replace('_', '/')}": str(path) for name, path in paths.items()}
    pattern = rf"(?<![\w/-])({'|'.join(folders) or '$^'})\b"
    text = re.sub(pattern, lambda match: folders[match[1]], text)
    return [*options, text]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder for weights, and on the path a `farm` that writes down how it was called."""
    folder = tmp_path / "weights"
    folder.mkdir()
    program = tmp_path / "farm"
    program.write_text(FARM.format(log=tmp_path / "log", folder=folder / "infinitetalk-480"))
    program.chmod(0o755)
    return folder


def test_two_jobs_for_the_weights_fill_the_volume_once(
    rendered: Render, weights: Path, tmp_path: Path
) -> None:
    command = script(rendered("cloud"), "weights", weights=weights)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    # When two run at once
    both = [subprocess.Popen(command, env=environ) for _ in range(2)]
    # Then one pulls, converts and checks, and the other finds them
    assert [each.wait(60) for each in both] == [0, 0]
    calls = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert calls == ["check", "pull", "convert", "check", "check"]


def test_a_pod_waits_until_the_weights_are_there(rendered: Render, weights: Path) -> None:
    command = script(rendered("spot"), "gpu", first=True, weights=weights)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert "infinitetalk-480 yet: kubectl logs job/weights" in waiting.stdout.readline()
        waiting.terminate()  # as kubelet does; a shell that waits would be killed after 80 s
        assert waiting.wait(30) == 1
    (weights / "infinitetalk-480").mkdir()
    assert subprocess.run(command, check=False, timeout=30).returncode == 0


def test_the_password_of_the_registry_is_in_a_file_that_others_cannot_read(
    rendered: Render, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "registry.conf").write_text("appendonly yes\n")
    server = tmp_path / "valkey-server"
    server.write_text('#!/bin/sh\necho "$@"\n')
    server.chmod(0o755)
    command = script(rendered("local"), "registry", etc_registry=tmp_path / "etc", tmp=tmp_path)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REGISTRY_PASSWORD": "secret"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    written = tmp_path / "registry.conf"
    assert done.stdout.strip() == str(written)
    assert written.read_text() == "appendonly yes\nrequirepass secret\n"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
