"""The health files of real workers, and the end of an idle one."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from farm import Farm
from farm.health import HealthFiles, folder_of_machine, worker_health
from tests.support.commands import environ_of, start_farm_command
from tests.support.holding import hold
from tests.support.small_farm import SmallFarm, small_farm
from tests.support.waiting import wait_for, wait_for_stage


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    with small_farm(tmp_path_factory.mktemp("home"), grace_s=3600) as supervisor:
        yield supervisor


def files_of(supervisor: SmallFarm, kind: str) -> HealthFiles:
    return HealthFiles(folder_of_machine(supervisor.settings.folder) / kind)


def test_a_gpu_worker_is_ready_until_it_drains(supervisor, small):
    gpu = files_of(supervisor, "gpu")
    wait_for(gpu.ready.exists)
    farm = Farm(settings=supervisor.settings)
    with hold(supervisor.settings, "chunk_0_sampling_50") as release:
        job = farm.submit(small)
        wait_for_stage(job, "chunk_0_sampling_50")
        assert gpu.progress.exists()
        supervisor.children["gpu"].terminate()
        wait_for(lambda: not gpu.ready.exists())
        assert worker_health(gpu.folder, "live").good
        release()
        assert supervisor.children["gpu"].wait() == 0
    supervisor.restart_dead()
    assert job.result().video


def test_a_stopped_cpu_worker_touches_no_file(supervisor):
    cpu = files_of(supervisor, "cpu")
    wait_for(cpu.ready.exists)
    supervisor.children["cpu"].send_signal(signal.SIGSTOP)
    try:
        cpu.alive.unlink()
        assert not worker_health(cpu.folder, "live").good
    finally:
        supervisor.children["cpu"].send_signal(signal.SIGCONT)
    wait_for(lambda: worker_health(cpu.folder, "live").good)


def test_a_second_gpu_worker_of_the_home_has_files_of_its_own_and_exits_when_idle(supervisor):
    first, second = (files_of(supervisor, name) for name in ("gpu", "gpu-2"))
    wait_for(first.ready.exists)
    environ = {**environ_of(supervisor.settings), "FARM_IDLE_EXIT_S": "0.5"}
    worker = start_farm_command(environ, "worker", "gpu")
    wait_for(second.alive.exists)
    _, log = worker.communicate()
    assert worker.returncode == 0
    assert "worker_idle" in log
    assert not second.folder.exists()
    assert worker_health(first.folder, "ready").good
