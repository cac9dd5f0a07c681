"""The numbers and the logs of a farm that really makes videos."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farm import Farm
from farm.local.supervisor import Supervisor, open_supervisor
from farm.monitoring.exporter import FarmCollector, serve, exposition
from farm.settings import Settings
from tests.integration.test_farm import children_of, eventually
from tests.support.prometheus import prometheus
from tests.support.queries import alerts, queries, selectors

UNTROUBLED = {alert["alert"] for alert in alerts()} | {f"Trouble in 15 minutes, {each}" for each in "ABCDE"}
"""What is asked after trouble: silent as long as there is none."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def three_free_ports() -> int:
    """The first of three ports in a row that nobody listens on."""
    for first in range(20_000, 60_000, 7):
        try:
            for port in range(first, first + 3):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("all ports are taken")


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A farm whose workers serve their numbers, and whose leases are short."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), lease_s=3, reap_every_s=1, metrics_address=str(three_free_ports())
    )
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("FARM_LEASE_S", "3")
        environ.setenv("OMP_NUM_THREADS", "1")
        with open_supervisor(settings) as supervisor:
            yield supervisor


@pytest.fixture(scope="module")
def farm(supervisor: Supervisor) -> Farm:
    return Farm(settings=supervisor.settings)


def port_of(supervisor: Supervisor, queue: str) -> int:
    return supervisor.settings.metrics_at[1] + 1 + ("cpu", "gpu").index(queue)


def read(said: str) -> Samples:
    families = text_string_to_metric_families(said)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for each in families for sample in each.samples
    }


def of_worker(supervisor: Supervisor, queue: str) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port_of(supervisor, queue)}/metrics", timeout=10) as answer:
        return read(answer.read().decode())


def of_farm(supervisor: Supervisor) -> Samples:
    return read(exposition(FarmCollector(supervisor.settings)))


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def lines(supervisor: Supervisor, queue: str) -> list[dict[str, Any]]:
    """All that a worker has written."""
    return [json.loads(line) for line in supervisor.log(queue).read_text().splitlines()]


def test_a_job_leaves_every_number_that_the_dashboard_and_the_alerts_ask_for(
    supervisor: Supervisor, farm: Farm, small: dict[str, Any]
) -> None:
    farm.submit(small).result(timeout_s=280)

    told = {**of_worker(supervisor, "cpu"), **of_worker(supervisor, "gpu"), **of_farm(supervisor)}

    missing = {
        (where, name)
        for where, query in queries().items()
        for name, equal, _ in selectors(query)
        if not any(name == each and set(equal.items()) <= labels for each, labels in told)
    }
    assert missing == set()


def test_numbers_agree_with_what_was_made(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    gpu, cpu, whole = of_worker(supervisor, "gpu"), of_worker(supervisor, "cpu"), of_farm(supervisor)

    result = farm.submit(small).result(timeout_s=280)

    chunks, frames = result.params["chunks"], result.params["frames"]
    size = {"size": "infinitetalk-480"}

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return of_worker(supervisor, "gpu").get(key, 0) - gpu.get(key, 0)

    assert eventually(lambda: grown("farm_chunk_seconds_count", **size, steps="1-4") == chunks, 10)
    assert eventually(lambda: grown("farm_frames_total", **size) == frames, 10)
    assert 0 < grown("farm_gpu_busy_seconds_total") <= grown("farm_chunk_seconds_sum", **size, steps="1-4")
    for kind in ("download", "embed", "mux"):
        before = one(cpu, "farm_step_seconds_count", kind=kind)
        now = one(of_worker(supervisor, "cpu"), "farm_step_seconds_count", kind=kind)
        assert now == before + 1
    assert one(of_farm(supervisor), "farm_jobs_total", outcome="success", code="") == (
        one(whole, "farm_jobs_total", outcome="success", code="") + 1
    )


def test_the_farm_knows_its_workers_and_what_runs(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    assert [one(of_farm(supervisor), "farm_workers", queue=queue) for queue in ("cpu", "gpu")] == [1, 1]

    job = farm.submit({**small, "sample_steps": 1000})
    eventually(lambda: "sampling" in job.status().stage)
    now = of_farm(supervisor)
    job.cancel(by="a test")

    assert one(now, "farm_running_steps", kind="generate") == 1
    assert one(now, "farm_runnable_jobs") == 1
    assert one(now, "farm_predicted_wait_seconds") > 0
    assert one(of_farm(supervisor), "farm_runnable_jobs") == 0


def test_what_a_child_has_counted_outlives_it_and_its_lease_is_lost(
    supervisor: Supervisor, farm: Farm, small: dict[str, Any]
) -> None:
    before = of_worker(supervisor, "gpu")
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_1_"))

    for child in children_of(supervisor.children["gpu"].pid):
        os.kill(child, signal.SIGKILL)
    job.result(timeout_s=280)

    after = of_worker(supervisor, "gpu")
    assert all(after[key] >= value for key, value in before.items() if "_created" not in key[0])
    find_lost_messages = {name: one(after, name, kind="generate") for name in ("farm_lease_losses_total", "farm_parked_total")}
    assert find_lost_messages == {
        "farm_lease_losses_total": one(before, "farm_lease_losses_total", kind="generate") + 1,
        "farm_parked_total": 0,
    }
    assert one(after, "farm_cold_load_seconds_count") == one(before, "farm_cold_load_seconds_count") + 1


def test_prometheus_reads_the_farm_and_answers_what_the_dashboard_asks(
    supervisor: Supervisor, farm: Farm, small: dict[str, Any], tmp_path: Path
) -> None:
    address = supervisor.settings.metrics_at
    farms = serve(FarmCollector(supervisor.settings), address)
    with prometheus(tmp_path, first_port=address.port) as ask:
        eventually(lambda: len(ask("query", query="up == 1")["result"]) == 3)
        farm.submit(small).result(timeout_s=280)

        def silent() -> set[str]:
            return {where for where, query in queries().items() if not ask("query", query=query)["result"]}

        eventually(lambda: silent() <= UNTROUBLED, 30)
        rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    farms.shutdown()

    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set()


def test_every_line_about_a_step_has_its_job(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    jobs = {farm.submit(small).id, farm.submit({**small, "cond_video": small["cond_audio"]["person1"]}).id}
    for job_id in jobs:
        farm.job(job_id).wait(timeout_s=280)

    for queue in ("cpu", "gpu"):
        written = lines(supervisor, queue)
        assert all(list(line) == ["ts", "level", "job_id", "event", "details", "lat_ms"] for line in written)
        steps = [line for line in written if line["event"].startswith(("step_", "ticket_", "model_"))]
        assert steps
        assert all(line["job_id"] for line in steps)
    failed = [line for line in lines(supervisor, "cpu") if line["event"] == "celery.app.trace"]
    assert failed
    assert all(line["job_id"] for line in failed), "Celery tells of a failed task after the step is over"


def test_the_worker_names_the_job_whose_child_died(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit(small)
    eventually(lambda: job.status().stage.startswith("chunk_0_"))

    for child in children_of(supervisor.children["gpu"].pid):
        os.kill(child, signal.SIGKILL)
    job.result(timeout_s=280)

    said = [line for line in lines(supervisor, "gpu") if "WorkerLostError" in str(line["details"])]
    assert job.id in [line["job_id"] for line in said if line["event"] == "celery.worker.request"]


def test_a_worker_whose_port_is_taken_works_and_says_so(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    os.killpg(supervisor.children["cpu"].pid, signal.SIGKILL)
    supervisor.children["cpu"].wait()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port_of(supervisor, "cpu")))
        taken.listen()
        supervisor.replace_dead(lambda _: None)

        assert farm.submit({**small, "max_frame_num": 21}).result(timeout_s=280).status == "success"

    assert "numbers_not_served" in [line["event"] for line in lines(supervisor, "cpu")]


def listener(port: int) -> str:
    """The system's number of the socket that listens on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (number,) = [row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"]
    return f"socket:[{number}]"


def test_a_child_does_not_hold_its_workers_port(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    worker = supervisor.children["gpu"].pid
    before = children_of(worker)
    for child in before:
        os.kill(child, signal.SIGKILL)
    farm.submit({**small, "max_frame_num": 21}).result(timeout_s=280)

    held = {
        pid: {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
        for pid in (worker, *children_of(worker))
    }

    there = listener(port_of(supervisor, "gpu"))
    assert set(before).isdisjoint(held)
    assert [pid for pid, files in held.items() if there in files] == [worker]


def test_a_worker_that_is_sent_away_takes_its_leave(supervisor: Supervisor) -> None:
    supervisor.children["gpu"].terminate()
    supervisor.children["gpu"].wait(60)

    assert one(of_farm(supervisor), "farm_workers", queue="gpu") == 0

    supervisor.replace_dead(lambda _: None)
    assert eventually(lambda: one(of_farm(supervisor), "farm_workers", queue="gpu") == 1)
