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
from farm.model.weights.published import (
    FLASHTALK,
    INDEX,
    INFINITETALK,
    PUBLISHED,
    TOKENIZER,
    WAN,
    WAV2VEC,
)
from farm.model.weights.sources import read_sources
from tests.support.disk import small_disk
from tests.unit.model.hub import COMMIT, Hub, opened

SHARDS = [f"diffusion_pytorch_model-{number:05}-of-00007.safetensors" for number in range(1, 8)]
SHARD = SHARDS[1]
WAN_FILES = {INDEX, *SHARDS, *WAN.files}
REPOSITORIES = {
    each.name: each
    for preset in PUBLISHED.values()
    for by_speakers in preset.origins.values()
    for needs in by_speakers.values()
    for each in needs.values()
}
CHUNK = 10 * 2**20
"""Bytes that the hub's library writes at a time."""
FROM_MAIN = tuple(f"--revision={each.name}=main" for each in (WAN, INFINITETALK["single"], WAV2VEC))
"""Lets a pull take the files of the hub on this machine, which have other content."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with all needed files, one of them large, and a file that is not needed."""
    drawn = random.Random(0)
    files: dict[str, dict[str, bytes]] = {name: {} for name in REPOSITORIES}
    for preset in PUBLISHED.values():
        for by_speakers in preset.origins.values():
            for needs in by_speakers.values():
                for each in needs.values():
                    files[each.name] |= {file: drawn.randbytes(2000) for file in each.files}
    index = {"weight_map": {f"{number}": shard for number, shard in enumerate(SHARDS)}}
    files[WAN.name] |= {
        INDEX: json.dumps(index).encode(),
        **{shard: drawn.randbytes(2000) for shard in SHARDS},
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
        command = [sys.executable, "-m", "tests.unit.model.farm_elsewhere", "weights", "pull"]
        command += arguments
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
    needed = {
        WAN.name: WAN_FILES,
        INFINITETALK["single"].name: {*INFINITETALK["single"].files},
        WAV2VEC.name: {*WAV2VEC.files},
    }
    for repository, files in needed.items():
        for file in files:
            assert machine.has(repository, file) == hub.files[repository][file]
    assert not any("assets" in path or "multi" in path for _, path, _ in hub.requests)
    # and their folders are recorded for `convert`, with the commit that `main` was
    recorded = read_sources(machine.weights / "infinitetalk-480.pulled.json")
    assert {(each.repository, each.revision, each.commit) for each in recorded.values()} == {
        (each.name, "main", COMMIT) for each in (WAN, INFINITETALK["single"], WAV2VEC)
    }
    assert recorded["infinitetalk"].path.name == "infinitetalk.safetensors"
    assert recorded["infinitetalk"].path.is_file()
    assert (recorded["wan"].path / SHARD).is_file()


def test_sizes_and_free_space_are_told_before_the_files(machine: Machine) -> None:
    lines = machine.pull("--speakers", "multi").stdout.splitlines()
    assert lines[:5] == [
        f"wan             0.03 GB in 15 files of {WAN.name} at {COMMIT[:12]}",
        f"infinitetalk    0.00 GB in  1 file of MeiGen-AI/InfiniteTalk at {COMMIT[:12]}",
        f"wav2vec         0.00 GB in  2 files of {WAV2VEC.name} at {COMMIT[:12]}",
        f"the download takes 0.03 GB; {machine.cache}/hub has 1000.00 GB free",
        f"the conversion into {machine.weights} takes 51.70 GB; {machine.weights} has 1000.00 GB "
        "free",
    ]
    assert f"{WAN.name} {SHARD} (0.03 GB)" in lines
    assert any("multi/infinitetalk.safetensors" in line for line in lines)
    assert lines[-1].startswith("next: farm weights convert infinitetalk-480")


def test_a_second_pull_transfers_nothing(hub: Hub, machine: Machine) -> None:
    assert machine.pull().returncode == 0
    hub.requests.clear()
    lines = machine.pull().stdout.splitlines()
    assert all(line.endswith(f" at {COMMIT[:12]}, here already") for line in lines[:3])
    assert lines[3].startswith("the download takes 0.00 GB; ")
    assert [
        path for method, path, _ in hub.requests if method == "GET" and "/api/" not in path
    ] == []


PUBLISHED_BYTES = {
    **dict.fromkeys(SHARDS, 65_579_659_176 // 7),
    "models_t5_umt5-xxl-enc-bf16.pth": 11_361_920_418,
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth": 4_772_059_140,
    "Wan2.1_VAE.pth": 507_570_124,
    "single/infinitetalk.safetensors": 9_948_710_952,
    "pytorch_model.bin": 380_261_837,
}


@pytest.mark.parametrize(
    ("free", "reason"),
    [
        (
            92 * 10**9,
            "hub has 92.00 GB free; the download takes 92.55 GB and the conversion into",
        ),
        (
            144 * 10**9,
            "weights takes 51.70 GB; set HF_HOME or FARM_WEIGHTS to a folder with more space",
        ),
    ],
)
def test_a_disk_without_room_for_download_and_conversion_is_refused_before_the_download(
    free: int, reason: str, hub: Hub, machine: Machine
) -> None:
    hub.announced = PUBLISHED_BYTES
    machine.environment["FREE_BYTES"] = str(free)
    done = machine.pull()
    assert done.returncode == 1
    assert "wan            82.22 GB in 15 files" in done.stdout
    assert reason in done.stderr
    assert hub.transfers("") == []


def test_what_has_arrived_or_is_converted_needs_no_new_space(hub: Hub, machine: Machine) -> None:
    # given two thirds of the large file, and a folder that was converted before
    blobs = machine.cache / "hub" / f"models--{WAN.name.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    content = hub.files[WAN.name][SHARD]
    partial = blobs / f"{hashlib.sha256(content).hexdigest()}.incomplete"
    partial.write_bytes(content[: 2 * CHUNK])
    (machine.weights / "infinitetalk-480").mkdir(parents=True)
    # when the disk can hold little more than the rest
    machine.environment["FREE_BYTES"] = str(CHUNK + 100_000)
    # then it is pulled
    done = machine.pull()
    assert done.returncode == 0, done.stderr
    assert machine.has(WAN.name, SHARD) == content


def test_a_broken_connection_is_resumed_where_it_broke(hub: Hub, machine: Machine) -> None:
    hub.cuts = [CHUNK + 5, CHUNK + 5]
    assert machine.pull().returncode == 0
    assert hub.transfers(WAN.name) == [
        None,
        f"bytes={CHUNK}-",
        f"bytes={2 * CHUNK}-",
    ]
    assert machine.has(WAN.name, SHARD) == hub.files[WAN.name][SHARD]


def test_a_server_without_ranges_sends_the_file_again_from_its_beginning(
    hub: Hub, machine: Machine
) -> None:
    hub.cuts = [CHUNK + 5]
    hub.serves_ranges = False
    assert machine.pull().returncode == 0
    assert hub.transfers(WAN.name) == [None, f"bytes={CHUNK}-"]
    assert machine.has(WAN.name, SHARD) == hub.files[WAN.name][SHARD]


def test_a_disk_that_fills_up_is_named_and_the_pull_resumes_on_it(
    hub: Hub, machine: Machine, tmp_path: Path
) -> None:
    try:
        with small_disk(tmp_path / "small", megabytes=40):
            # given a disk that is filled by something else during the download
            machine.environment["HF_HOME"] = str(tmp_path / "small" / "hf")
            machine.cache = tmp_path / "small" / "hf"
            hold = tmp_path / "small" / "hold"
            hold.write_bytes(bytes(25 * 2**20))
            filled = machine.pull()
            # when there is room again
            hold.unlink()
            hub.requests.clear()
            done = machine.pull()
            # then the first said so, and the second went on where it stopped
            assert filled.returncode == 1
            assert f"{SHARD} of {WAN.name}: the disk of {machine.cache}/hub is full" in (
                filled.stderr
            )
            assert "make room there, and pull again to resume" in filled.stderr
            assert done.returncode == 0, done.stderr
            (rest,) = hub.transfers(WAN.name)
            assert rest is not None
            assert machine.has(WAN.name, SHARD) == hub.files[WAN.name][SHARD]
    except PermissionError as error:
        pytest.skip(str(error))


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
    for each in pulls:
        _, error = each.communicate(timeout=60)
        assert each.returncode == 0, error
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
        WAN.name: WAN_FILES,
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


def test_a_gated_repository_says_what_to_do(hub: Hub, machine: Machine) -> None:
    hub.gated = {WAN.name}
    done = machine.pull()
    assert done.returncode == 1
    assert f"{INDEX} of {WAN.name}: its terms have to be accepted on its page" in done.stderr


def test_an_unreachable_hub_is_named_and_may_be_tried_again(machine: Machine) -> None:
    machine.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    done = machine.pull()
    assert done.returncode == 1
    assert f"E_DOWNLOAD_FAILED: {WAN.name} at main: http://127.0.0.1:9 cannot be" in done.stderr
    assert "set HF_ENDPOINT to a mirror, and pull again to resume where it stopped" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_must_not_be_asked_is_named(machine: Machine) -> None:
    machine.environment["HF_HUB_OFFLINE"] = "1"
    assert "HF_HUB_OFFLINE forbids to ask the hub; unset it" in machine.pull().stderr


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_requested(
    hub: Hub, machine: Machine
) -> None:
    machine.weights.write_text("a file where the folder should be")
    done = machine.pull()
    assert done.returncode == 2
    assert f"weights: {machine.weights} cannot be created" in done.stderr
    assert hub.requests == []


@pytest.mark.parametrize("origin", ["comfyui", "comfyui-fp8"])
@pytest.mark.parametrize("speakers", ["single", "multi"])
def test_single_files_are_pulled_for_every_part(
    origin: str, speakers: str, hub: Hub, machine: Machine
) -> None:
    needs = PUBLISHED["infinitetalk-480"].origins[origin][speakers]
    revisions = {f"--revision={each.name}=main" for each in needs.values()}
    running = machine.start("--from", origin, "--speakers", speakers, *revisions)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    # then the record has a file for each part, and the folder of what has several
    recorded = read_sources(machine.weights / "infinitetalk-480.pulled.json")
    assert {*recorded} == {
        *("wan", "infinitetalk", "wav2vec"),
        *("text_encoder", "image_encoder", "vae", "tokenizer"),
    }
    for role, repository in needs.items():
        first = machine.path(repository.name, next(iter(repository.files)))
        assert recorded[role].path == (first if len(repository.files) == 1 else first.parent)
    # and the lock has the content of each
    lock = read_lock(machine.lock)
    for repository in needs.values():
        for file in repository.files:
            expected = hashlib.sha256(hub.files[repository.name][file]).hexdigest()
            assert lock[repository.name].files[file] == expected


def test_only_the_named_roles_are_pulled_and_added_to_the_record(
    hub: Hub, machine: Machine
) -> None:
    assert machine.pull().returncode == 0
    hub.requests.clear()
    machine.environment["FREE_BYTES"] = "1000000"  # no room for a conversion, which is not meant
    done = machine.pull("--from", "comfyui", "--only", "tokenizer")
    assert done.returncode == 0, done.stderr
    asked = {path.partition(f"{COMMIT}/")[2] for method, path, _ in hub.requests}
    assert asked - {""} == {*TOKENIZER}
    recorded = read_sources(machine.weights / "infinitetalk-480.pulled.json")
    assert {*recorded} == {"wan", "infinitetalk", "wav2vec", "tokenizer"}
    assert recorded["tokenizer"].path == recorded["wan"].path / "google" / "umt5-xxl"


FLASHTALK_FROM_MAIN = tuple(f"--revision={each.name}=main" for each in (FLASHTALK, WAV2VEC))


def pull_flashtalk(machine: Machine, *arguments: str) -> tuple[int, str]:
    running = machine.start("flashtalk", *FLASHTALK_FROM_MAIN, *arguments)
    _, errors = running.communicate(timeout=60)
    return running.returncode, errors


def test_the_shards_of_flashtalk_are_those_of_its_index(hub: Hub, machine: Machine) -> None:
    shards = [f"diffusion_pytorch_model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    index = {"weight_map": {"a": shards[2], "b": shards[0], "c": shards[1], "d": shards[0]}}
    hub.files[FLASHTALK.name] |= {
        INDEX: json.dumps(index).encode(),
        **{shard: shard.encode() for shard in shards},
    }
    status, errors = pull_flashtalk(machine)
    assert status == 0, errors
    assert all(machine.has(FLASHTALK.name, shard) == shard.encode() for shard in shards)
    recorded = read_sources(machine.weights / "flashtalk.pulled.json")
    assert {*recorded} == {"wan", "wav2vec"}
    assert (recorded["wan"].path / INDEX).is_file()
    assert {*shards} < {*read_lock(machine.weights / "flashtalk.lock.json")[FLASHTALK.name].files}


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (b'{"weight_map": {"a": "../../a.safetensors"}}', "names a file outside its folder"),
        (b"[]", "is not an index of tensors"),
    ],
)
def test_an_index_that_names_no_shards_is_refused(
    index: bytes, reason: str, hub: Hub, machine: Machine
) -> None:
    hub.files[FLASHTALK.name][INDEX] = index
    status, errors = pull_flashtalk(machine)
    assert (status, reason in errors) == (1, True), errors


@pytest.mark.parametrize(
    ("arguments", "expected_message"),
    [
        (["--from", "comfy"], "from: got 'comfy'; allowed: official, comfyui, comfyui-fp8"),
        (["--only", "vae"], "only: got 'vae'; allowed: wan, infinitetalk, wav2vec"),
        (["flashtalk", "--speakers", "multi"], "speakers: got 'multi'; allowed: single"),
        (["flashtalk", "--from", "comfyui"], "from: got 'comfyui'; allowed: official"),
    ],
)
def test_what_is_not_published_is_refused_with_what_is(
    arguments: list[str], expected_message: str, machine: Machine
) -> None:
    running = machine.start(*arguments)
    _, errors = running.communicate(timeout=60)
    assert (running.returncode, expected_message in errors) == (2, True), errors
