"""`farm weights pull`, as its own process, against a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.model.weights.lock import read_lock
from farm.model.weights.sources import INFINITETALK, WAN, WAV2VEC, read_sources
from tests.unit.model.hub import COMMIT, Hub, opened

SHARD = "diffusion_pytorch_model-00002-of-00007.safetensors"
CHUNK = 10 * 2**20
"""Bytes that the hub's library writes at a time."""
FROM_MAIN = tuple(f"--revision={each.name}=main" for each in (WAN, INFINITETALK["single"], WAV2VEC))
"""Lets a pull take the files of the hub on this machine, which have other content."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with all needed files, one of them large, and a file that is not needed."""
    drawn = random.Random(0)
    repositories = (WAN, INFINITETALK["single"], INFINITETALK["multi"], WAV2VEC)
    files: dict[str, dict[str, bytes]] = {each.name: {} for each in repositories}
    for each in repositories:
        files[each.name] |= {file: drawn.randbytes(2000) for file in each.files}
    files[WAN.name] |= {
        SHARD: drawn.randbytes(3 * CHUNK),
        "assets/logo.png": b"not needed",
    }
    with opened(files) as running:
        yield running


class Machine:
    """The environment of `pull`, and the files that it leaves.

    Until `main` is locked, it has to be asked for, as the tried commits are of other content.
    """

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.weights = folder / "weights"
        self.cache = folder / "hf"
        mine = {
            "FARM_WEIGHTS": str(self.weights),
            "HF_HOME": str(self.cache),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "ours",
        }
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FARM_", "HF_"))
        }
        self.environment = clean | mine

    @property
    def lock(self) -> Path:
        return self.weights / "infinitetalk-480.lock.json"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "farm", "weights", "pull", *arguments]
        return subprocess.Popen(command, env=self.environment, stdout=-1, stderr=-1, text=True)

    def pull(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        running = self.start(*(() if self.lock.exists() else FROM_MAIN), *arguments)
        out, err = running.communicate(timeout=60)
        return subprocess.CompletedProcess(running.args, running.returncode, out, err)

    def path(self, repository: str, file: str) -> Path:
        name = repository.replace("/", "--")
        return self.cache / "hub" / f"models--{name}" / "snapshots" / COMMIT / file

    def has(self, repository: str, file: str) -> bytes:
        return self.path(repository, file).read_bytes()


@pytest.fixture
def machine(hub: Hub, tmp_path: Path) -> Machine:
    return Machine(hub, tmp_path)


def test_only_needed_files_are_pulled_and_their_commits_recorded(
    hub: Hub, machine: Machine
) -> None:
    done = machine.pull()
    assert done.returncode == 0, done.stderr
    for repository in (WAN, INFINITETALK["single"], WAV2VEC):
        for file in repository.files:
            assert machine.has(repository.name, file) == hub.files[repository.name][file]
    assert not any("assets" in path or "multi" in path for _, path, _ in hub.requests)
    # and their folders are recorded for `convert`, with the commit that `main` was
    recorded = read_sources(machine.weights / "infinitetalk-480.pulled.json")
    assert {(each.repository, each.revision, each.commit) for each in recorded.values()} == {
        (each.name, "main", COMMIT) for each in (WAN, INFINITETALK["single"], WAV2VEC)
    }
    assert (recorded["infinitetalk"].path / "infinitetalk.safetensors").is_file()
    assert (recorded["wan"].path / SHARD).is_file()


def test_progress_names_the_total_and_each_file(machine: Machine) -> None:
    lines = machine.pull("--speakers", "multi").stdout.splitlines()
    assert lines[0] == "0.03 GB in 18 files to download"
    assert f"{WAN.name} {SHARD} (0.03 GB)" in lines
    assert any("multi/infinitetalk.safetensors" in line for line in lines)
    assert lines[-1] == "next: farm weights convert infinitetalk-480"


def test_a_second_pull_transfers_nothing(hub: Hub, machine: Machine) -> None:
    assert machine.pull().returncode == 0
    hub.requests.clear()
    assert "0.00 GB in 0 files" in machine.pull().stdout
    assert [
        path for method, path, _ in hub.requests if method == "GET" and "/api/" not in path
    ] == []


def test_a_broken_connection_is_resumed_where_it_broke(hub: Hub, machine: Machine) -> None:
    hub.cuts = [CHUNK + 5, CHUNK + 5]
    assert machine.pull().returncode == 0
    assert hub.transfers(WAN.name) == [
        None,
        f"bytes={CHUNK}-",
        f"bytes={2 * CHUNK}-",
    ]
    assert machine.has(WAN.name, SHARD) == hub.files[WAN.name][SHARD]


def test_a_killed_pull_resumes_where_it_stopped(hub: Hub, machine: Machine) -> None:
    # given a pull that is killed in the middle of a file
    hub.hold = 2 * CHUNK + 5
    first = machine.start(*FROM_MAIN)
    assert hub.held.wait(60)
    while not any(each.stat().st_size == 2 * CHUNK for each in machine.cache.rglob("*.incomplete")):
        time.sleep(0.01)
    first.kill()
    first.communicate()
    # when it is started again
    hub.hold = None
    hub.requests.clear()
    assert machine.pull().returncode == 0
    # then only the rest is requested, and the file is complete
    assert hub.transfers(WAN.name) == [f"bytes={2 * CHUNK}-"]
    assert machine.has(WAN.name, SHARD) == hub.files[WAN.name][SHARD]
    assert list(machine.cache.rglob("*.incomplete")) == []


def test_two_pulls_at_once_share_the_work(hub: Hub, machine: Machine) -> None:
    pulls = [machine.start(*FROM_MAIN) for _ in range(2)]
    assert [each.wait(60) for each in pulls] == [0, 0]
    for each in pulls:
        each.communicate()
    assert len(hub.transfers(WAN.name)) == 1
    assert machine.has(WAN.name, SHARD) == hub.files[WAN.name][SHARD]


def test_an_unfinished_file_that_is_too_long_is_restarted(hub: Hub, machine: Machine) -> None:
    content = hub.files[WAN.name][SHARD]
    blobs = machine.cache / "hub" / f"models--{WAN.name.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(content).hexdigest()}.incomplete").write_bytes(content + b"more")
    assert machine.pull().returncode == 0
    assert machine.has(WAN.name, SHARD) == content


def test_a_large_file_that_arrives_damaged_is_not_kept(hub: Hub, machine: Machine) -> None:
    hub.damage = True
    done = machine.pull()
    assert done.returncode == 1
    message = f"E_DOWNLOAD_FAILED: {SHARD} of {WAN.name} arrived damaged and was deleted"
    assert message in done.stderr
    hub.damage = False
    assert machine.pull().returncode == 0


def test_the_token_goes_to_the_hub_and_not_to_the_content_network(
    hub: Hub, machine: Machine
) -> None:
    assert machine.pull().returncode == 0
    sent = {
        path.startswith("/cdn/"): headers.get("authorization") for _, path, headers in hub.requests
    }
    assert sent == {False: "Bearer ours", True: None}


def test_a_pinned_revision_is_taken(machine: Machine) -> None:
    done = machine.pull("--revision", f"{WAV2VEC.name}={COMMIT}")
    assert done.returncode == 0
    sources = read_sources(machine.weights / "infinitetalk-480.pulled.json")
    assert sources["wav2vec"].revision == COMMIT


def test_the_tried_commits_are_pulled_and_other_content_than_theirs_is_refused(
    hub: Hub, machine: Machine
) -> None:
    done = machine.start()
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 1
    requested = [path for _, path, _ in hub.requests if path.startswith("/api/models/")]
    assert requested == [
        f"/api/models/{each.name}/revision/{each.commit}"
        for each in (WAN, INFINITETALK["single"], WAV2VEC)
    ]
    file = "models_t5_umt5-xxl-enc-bf16.pth"
    assert f"{file} of {WAN.name} at {WAN.commit}: " in errors
    assert f"instead of {WAN.files[file]}" in errors
    assert not machine.lock.exists()


def test_the_first_pull_locks_commits_and_content(hub: Hub, machine: Machine) -> None:
    assert machine.pull().returncode == 0
    assert machine.pull("--speakers", "multi").returncode == 0
    lock = read_lock(machine.lock)
    assert {name: each.commit for name, each in lock.items()} == dict.fromkeys(lock, COMMIT)
    needed = {
        WAN.name: {*WAN.files},
        INFINITETALK["single"].name: {*INFINITETALK["single"].files, *INFINITETALK["multi"].files},
        WAV2VEC.name: {*WAV2VEC.files},
    }
    assert {name: each.files for name, each in lock.items()} == {
        name: {file: hashlib.sha256(hub.files[name][file]).hexdigest() for file in files}
        for name, files in needed.items()
    }


def test_a_later_pull_takes_the_locked_commit_until_another_revision_is_asked_for(
    hub: Hub, machine: Machine
) -> None:
    assert machine.pull().returncode == 0
    hub.main = "6" * 40
    assert machine.pull().returncode == 0
    assert {each.commit for each in read_lock(machine.lock).values()} == {COMMIT}
    assert machine.pull("--revision", f"{WAN.name}=main").returncode == 0
    lock = read_lock(machine.lock)
    assert (lock[WAN.name].commit, lock[WAV2VEC.name].commit) == (hub.main, COMMIT)


def test_another_commit_than_the_locked_one_is_refused(hub: Hub, machine: Machine) -> None:
    assert machine.pull().returncode == 0
    hub.answer = "6" * 40
    done = machine.pull()
    assert done.returncode == 1
    assert f"{WAN.name}: the hub answers with {hub.answer} instead of {COMMIT}" in done.stderr


@pytest.mark.parametrize("file", [SHARD, "Wan2.1_VAE.pth"])
def test_other_content_than_what_is_locked_is_refused_whoever_serves_it(
    file: str, hub: Hub, machine: Machine
) -> None:
    # given a lock of another machine, and a server with other content under the same commit
    assert machine.pull().returncode == 0
    locked = machine.lock.read_text()
    shutil.rmtree(machine.cache)
    hub.files[WAN.name][file] = hub.files[WAN.name][file][::-1]
    hub.requests.clear()
    # when it is pulled
    done = machine.pull()
    # then it is refused, a large file before its transfer, and the lock stays
    assert done.returncode == 1
    assert f"E_DOWNLOAD_FAILED: {file} of {WAN.name} at {COMMIT}: " in done.stderr
    assert f"instead of {json.loads(locked)[WAN.name]['files'][file]}" in done.stderr
    assert file != SHARD or hub.transfers(WAN.name) == []
    assert machine.lock.read_text() == locked


def test_a_file_that_was_altered_in_the_cache_is_refused(machine: Machine) -> None:
    assert machine.pull().returncode == 0
    blob = machine.path(WAN.name, SHARD).resolve()
    with blob.open("r+b") as content:
        content.write(b"altered")
    done = machine.pull()
    assert done.returncode == 1
    assert f"{SHARD} of {WAN.name} at {COMMIT}: {machine.path(WAN.name, SHARD)} has" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "expected_message"),
    [
        (
            ["--revision", f"{WAN.name}=v9"],
            1,
            f"E_DOWNLOAD_FAILED: {WAN.name} at v9: there is no such revision",
        ),
        (
            ["--revision", "somebody/else=main"],
            2,
            f"revision: got one for 'somebody/else'; this preset needs {WAN.name}, ",
        ),
        (["--revision", "main"], 2, "revision: got 'main'; allowed: REPOSITORY=REVISION"),
        (["miniature"], 2, "its weights come with the package"),
        (["infinitetalk-48O"], 2, "did you mean infinitetalk-480?"),
    ],
)
def test_invalid_arguments_are_refused(
    arguments: list[str], status: int, expected_message: str, machine: Machine
) -> None:
    done = machine.pull(*arguments)
    assert (done.returncode, expected_message in done.stderr) == (status, True), done.stderr


def test_a_missing_file_and_a_closed_repository_are_named(hub: Hub, machine: Machine) -> None:
    del hub.files[WAN.name]["Wan2.1_VAE.pth"]
    assert f"Wan2.1_VAE.pth of {WAN.name}: there is no such file" in machine.pull().stderr
    del hub.files[WAN.name]
    assert (
        f"{WAN.name} at main: there is no such repository, or it needs a token"
        in machine.pull().stderr
    )


def test_an_unreachable_hub_is_a_retryable_failure(
    machine: Machine,
) -> None:
    machine.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    done = machine.pull()
    assert done.returncode == 1
    assert "E_DOWNLOAD_FAILED" in done.stderr
    assert "pull again to resume where it stopped" in done.stderr
    assert "Traceback" not in done.stderr
