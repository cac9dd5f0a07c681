"""`farm health` reads the files of a worker, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import pytest

from farm.health import (
    ALIVE_S,
    Health,
    HealthFiles,
    folder_of_machine,
    health,
    parse_probe,
    worker_health,
)

LIMIT = 1.6
"""Of what a process takes of a processor that only imports pathlib; the best of several of each."""


@pytest.fixture
def files(tmp_path: Path) -> HealthFiles:
    """Those of a worker that has just started."""
    files = HealthFiles(tmp_path)
    files.begin()
    files.alive.touch()
    return files


def test_a_worker_that_loads_its_model_is_alive_and_not_ready(files):
    assert worker_health(files.folder, "live").good
    assert not worker_health(files.folder, "startup").good
    assert not worker_health(files.folder, "ready").good


def test_a_ready_worker_has_started(files):
    files.set_ready(True)
    assert worker_health(files.folder, "startup").good
    assert worker_health(files.folder, "ready").good


def test_a_draining_worker_is_alive_and_not_ready(files):
    files.set_ready(True)
    files.set_ready(False)
    assert worker_health(files.folder, "live").good
    assert not worker_health(files.folder, "ready").good


def test_a_worker_that_has_stopped_is_not_alive(files):
    files.set_ready(True)
    long_ago = time.time() - ALIVE_S - 1
    os.utime(files.alive, (long_ago, long_ago))
    assert not worker_health(files.folder, "live").good
    assert not worker_health(files.folder, "ready").good


def test_a_worker_begins_without_the_files_of_the_one_before(files):
    files.set_ready(True)
    files.begin()
    assert not worker_health(files.folder, "live").good


# Several workers of one machine

WORKER = """
import sys
from pathlib import Path
from farm.health import claim_files

files = claim_files(Path(sys.argv[1]), sys.argv[2])
files.begin()
files.alive.touch()
print(files.folder.name, flush=True)
sys.stdin.read()
files.remove()
"""


@dataclass
class Machine:
    """Workers that share a home."""

    home: Path
    workers: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    """By the name of their folder."""

    def start(self, kind: str) -> str:
        """The name of a new worker."""
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self.home), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        name = worker.stdout.readline().strip()
        self.workers[name] = worker
        return name

    def end(self, name: str) -> None:
        worker = self.workers.pop(name)
        worker.communicate()

    def kill(self, name: str) -> None:
        self.workers[name].kill()
        self.end(name)

    def files(self, name: str) -> HealthFiles:
        return HealthFiles(folder_of_machine(self.home) / name)

    def health(self, worker: str | None = None) -> Health:
        return health({"FARM_HOME": str(self.home)}, "live", worker)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for name in list(machine.workers):
        machine.end(name)


def test_each_worker_has_files_of_its_own_and_is_named_after_its_kind(machine):
    names = [machine.start(kind) for kind in ("gpu", "gpu", "cpu", "gpu")]
    assert names == ["gpu", "gpu-2", "cpu", "gpu-3"]
    machine.files("gpu-2").alive.unlink()
    assert [machine.health(name).good for name in names] == [True, False, True, True]


def test_a_worker_alone_need_not_be_named(machine):
    assert machine.health().good is False
    machine.start("gpu")
    assert machine.health() == machine.health("gpu")
    assert machine.health().good


def test_of_several_workers_all_are_listed_and_one_is_asked_for(machine):
    for _ in range(2):
        machine.start("gpu")
    machine.files("gpu-2").alive.unlink()
    found = machine.health()
    assert found.good is None
    assert found.line.splitlines() == [
        machine.health("gpu").line,
        machine.health("gpu-2").line,
        "Which one? `farm health gpu` or `farm health gpu-2`",
    ]


def test_a_worker_takes_the_place_of_one_that_was_killed_or_has_ended(machine):
    for leave in (machine.kill, machine.end):
        assert [machine.start("gpu") for _ in range(2)] == ["gpu", "gpu-2"]
        leave("gpu")
        assert machine.start("gpu") == "gpu"
        for name in ("gpu", "gpu-2"):
            machine.end(name)


def test_a_killed_worker_is_listed_until_the_next_one_starts(machine):
    for _ in range(2):
        machine.start("gpu")
    machine.kill("gpu-2")
    assert machine.health().good is None
    machine.start("cpu")
    assert not machine.files("gpu-2").folder.exists()
    assert machine.health("gpu").good
    assert not machine.health("gpu-2").good


def test_a_child_that_outlives_its_worker_does_not_keep_its_place(machine):
    left, kept = os.pipe()
    fork = "import os\nos.fork() == 0 and os._exit(len(os.read(0, 1)))\nprint("
    killed = subprocess.Popen(
        [sys.executable, "-c", WORKER.replace("print(", fork), str(machine.home), "gpu"],
        stdin=left,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "gpu\n"
    killed.kill()
    killed.wait()
    assert machine.start("gpu") == "gpu"
    os.close(kept)
    os.close(left)


def probe(files: HealthFiles, *options: str) -> subprocess.CompletedProcess[str]:
    environ = {"FARM_HEALTH_FOLDER": str(files.folder), "FARM_BROKER_URL": "redis://127.0.0.1:1"}
    command = (str(Path(sys.executable).with_name("farm")), "health", *options)
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_the_command_says_in_one_line_what_it_found(files):
    found = probe(files, "--startup")
    assert found.returncode == 1
    assert found.stdout.count("\n") == 1
    assert "not ready" in found.stdout
    assert probe(files, "--live").returncode == 0


@pytest.mark.parametrize("words", [["--alive"], ["--live", "--ready", "gpu", "cpu"]])
def test_a_misspelt_probe_is_no_success(files, words):
    assert probe(files, *words).returncode == 2


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("health", ("ready", None)),
        ("health --live", ("live", None)),
        ("health gpu-2 --startup", ("startup", "gpu-2")),
        ("health --startup gpu-2", ("startup", "gpu-2")),
        ("health --help", None),
        ("health --live --ready", None),
        ("health gpu cpu", None),
        ("jobs --live", None),
        ("", None),
    ],
)
def test_a_probe_is_answered_before_the_command_line_proper_is_imported(words, found):
    assert parse_probe(words.split()) == found


def test_the_status_says_that_a_worker_has_to_be_named(machine):
    for kind in ("cpu", "gpu"):
        machine.start(kind)
    command = (str(Path(sys.executable).with_name("farm")), "health")
    environ = {"FARM_HOME": str(machine.home)}
    for words, status in (((), 2), (("--live", "gpu"), 0), (("gpu",), 1), (("--live", "b"), 1)):
        done = subprocess.run([*command, *words], env=environ, capture_output=True, check=False)
        assert done.returncode == status, words


def test_a_probe_costs_little_more_than_a_process_that_does_nothing(files):
    def of_a_processor(run: Callable[[], object]) -> float:
        before = getrusage(RUSAGE_CHILDREN)
        run()
        after = getrusage(RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def nothing() -> None:
        subprocess.run([sys.executable, "-c", "import pathlib"], check=True)

    costs = [
        (of_a_processor(nothing), of_a_processor(lambda: probe(files, "--live"))) for _ in range(20)
    ]
    idle, probing = map(min, zip(*costs, strict=True))
    assert probing < LIMIT * idle
