"""The metrics and the logs of a farm that makes videos."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farm import Farm
from farm.monitoring.exporter import FarmCollector, exposition, serve
from farm.route import Queue, StepKind
from tests.integration.conftest import ENDLESS, ONE_CHUNK
from tests.support.gateway import running_gateway
from tests.support.holding import job_held_at
from tests.support.ports import adjacent_free_ports
from tests.support.processes import (
    children_of,
    kill_children,
    kill_group,
    open_files,
    tcp_sockets,
)
from tests.support.prometheus import prometheus
from tests.support.queries import alerts, is_of_two_servers, queries, selectors
from tests.support.small_farm import SmallFarm, small_farm
from tests.support.waiting import wait_for, wait_for_stage

SILENT_WITHOUT_FAULTS = {alert["alert"] for alert in alerts()} | {
    f"Faults in 15 minutes, {target}" for target in "ABCDE"
}
"""Queries that return nothing as long as there are no faults."""

OF_OTHER_PROCESSES = {
    title
    for title, query in queries().items()
    for name, _, _ in selectors(query)
    if is_of_two_servers(name) or name.startswith("farm_gateway_")
}
"""Queries for what a farm without a gateway and RabbitMQ does not have."""

LISTENING = "0A"
"""The state in /proc/net/tcp."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by the name and the labels of a sample."""


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    """A farm whose workers serve their metrics."""
    home = tmp_path_factory.mktemp("home")
    with small_farm(home, metrics_address=adjacent_free_ports(3)) as supervisor:
        yield supervisor


def port_of(supervisor: SmallFarm, queue: Queue) -> int:
    first = supervisor.settings.metrics_listen_address.port
    return first + 1 + ("cpu", "gpu").index(queue)


def parse(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def worker_samples(supervisor: SmallFarm, queue: Queue) -> Samples:
    url = f"http://127.0.0.1:{port_of(supervisor, queue)}/metrics"
    with urllib.request.urlopen(url) as answer:
        return parse(answer.read().decode())


def exporter_samples(supervisor: SmallFarm) -> Samples:
    return parse(exposition(FarmCollector(supervisor.settings)))


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def log_lines(supervisor: SmallFarm, queue: Queue) -> list[dict[str, Any]]:
    """All that a worker has written."""
    return [json.loads(line) for line in supervisor.log(queue).read_text().splitlines()]


def test_a_job_leaves_every_sample_that_the_dashboard_and_the_alerts_query(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    farm.submit(small).result()
    with running_gateway(farm) as client:
        client.get("status/none")
        answered = parse(client.send("GET", "/metrics").body)

    samples = {
        **answered,
        **worker_samples(supervisor, "cpu"),
        **worker_samples(supervisor, "gpu"),
        **exporter_samples(supervisor),
    }

    def is_exported(name: str, wanted: dict[str, str]) -> bool:
        return any(name == each and set(wanted.items()) <= labels for each, labels in samples)

    missing = {
        (title, name)
        for title, query in queries().items()
        for name, wanted, _ in selectors(query)
        if not is_exported(name, wanted) and not is_of_two_servers(name)
    }
    assert missing == set()


def test_metrics_agree_with_what_was_made(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    queues: tuple[Queue, ...] = ("cpu", "gpu")
    before = {queue: worker_samples(supervisor, queue) for queue in queues}
    exporter = exporter_samples(supervisor)

    result = farm.submit(small).result()

    chunks = result.params["chunks"]
    frames = result.params["frames"]
    size = {"model": "miniature", "size": "infinitetalk-480"}

    def increase(queue: Queue, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return worker_samples(supervisor, queue).get(key, 0) - before[queue].get(key, 0)

    def made(step: StepKind) -> float:
        return increase("cpu", "farm_step_seconds_count", step=step)

    wait_for(lambda: increase("gpu", "farm_chunk_seconds_count", **size, steps="1-4") == chunks)
    wait_for(lambda: increase("gpu", "farm_frames_total", **size) == frames)
    chunk_seconds = increase("gpu", "farm_chunk_seconds_sum", **size, steps="1-4")
    assert 0 < increase("gpu", "farm_gpu_busy_seconds_total") <= chunk_seconds
    wait_for(lambda: made("download") == made("embed") == made("mux") == 1)
    successes = {"outcome": "success", "code": ""}
    assert value(exporter_samples(supervisor), "farm_jobs_total", **successes) == (
        value(exporter, "farm_jobs_total", **successes) + 1
    )


def test_the_exporter_knows_the_workers_and_what_runs(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    workers = exporter_samples(supervisor)
    assert [value(workers, "farm_workers", queue=queue) for queue in ("cpu", "gpu")] == [1, 1]

    job = farm.submit({**small, **ENDLESS})
    wait_for_stage(job, "chunk_0_sampling")
    running = exporter_samples(supervisor)
    job.cancel(by="a test")

    assert value(running, "farm_running_steps", step="generate") == 1
    assert value(running, "farm_runnable_jobs") == 1
    assert value(running, "farm_estimated_wait_seconds") > 0
    assert value(exporter_samples(supervisor), "farm_runnable_jobs") == 0


def test_the_counts_of_a_killed_child_remain_and_its_lease_expires(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    before = worker_samples(supervisor, "gpu")
    with job_held_at("chunk_1_sampling_50", farm, small) as job:
        kill_children(supervisor.children["gpu"].pid)
    job.result()

    after = worker_samples(supervisor, "gpu")
    assert all(after[key] >= count for key, count in before.items() if "_created" not in key[0])
    expired = value(before, "farm_expired_leases_total", step="generate")
    assert value(after, "farm_expired_leases_total", step="generate") == expired + 1
    assert value(after, "farm_worker_lost_total", step="generate") == 0
    loads = value(before, "farm_model_load_seconds_count")
    assert value(after, "farm_model_load_seconds_count") == loads + 1


def test_prometheus_scrapes_the_farm_and_answers_the_dashboard(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any], tmp_path: Path
) -> None:
    address = supervisor.settings.metrics_listen_address
    exporter = serve(FarmCollector(supervisor.settings), address)
    with prometheus(tmp_path, first_port=address.port) as ask:
        wait_for(lambda: len(ask("query", query="up == 1")["result"]) == 3)
        farm.submit(small).result()

        def silent_queries() -> set[str]:
            return {
                title
                for title, query in queries().items()
                if not ask("query", query=query)["result"]
            }

        wait_for(lambda: silent_queries() <= SILENT_WITHOUT_FAULTS | OF_OTHER_PROCESSES)
        rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    exporter.shutdown()

    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set()


def test_every_line_about_a_step_has_its_job(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    unusable = {**small, "cond_video": "store://uploads/" + "0" * 64}
    failed = farm.submit(unusable)
    for job in [farm.submit(small), failed]:
        job.wait()

    for queue in ("cpu", "gpu"):
        lines = log_lines(supervisor, queue)
        columns = ["ts", "level", "job_id", "event", "details", "lat_ms"]
        assert all(list(line) == columns for line in lines)
        about_steps = [line for line in lines if line["event"].startswith(("step_", "model_"))]
        assert about_steps
        assert all(line["job_id"] for line in about_steps)
    # and a job that ends with one of the farm's own errors does so in one line
    events = [each["event"] for each in log_lines(supervisor, "cpu") if each["job_id"] == failed.id]
    assert events.count("step_failed") == 1
    assert not {"step_raised", "celery.app.trace"} & {*events}


def test_the_worker_names_the_job_whose_child_died(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    with job_held_at("chunk_0_sampling_0", farm, small) as job:
        kill_children(supervisor.children["gpu"].pid)
    job.result()

    lost = [
        line
        for line in log_lines(supervisor, "gpu")
        if line["event"] == "celery.worker.request" and "WorkerLostError" in str(line["details"])
    ]
    assert job.id in [line["job_id"] for line in lost]


def test_a_worker_whose_port_is_taken_works_and_logs_it(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    kill_group(supervisor.children["cpu"])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port_of(supervisor, "cpu")))
        taken.listen()
        supervisor.restart_dead()

        assert farm.submit({**small, **ONE_CHUNK}).result().status == "success"

    assert "metrics_server_failed" in [line["event"] for line in log_lines(supervisor, "cpu")]


def test_a_child_does_not_hold_the_port_of_its_worker(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any]
) -> None:
    worker = supervisor.children["gpu"].pid
    before = children_of(worker)
    kill_children(worker)
    farm.submit({**small, **ONE_CHUNK}).result()

    files = {pid: open_files(pid) for pid in (worker, *children_of(worker))}

    listener = listening_socket(port_of(supervisor, "gpu"))
    assert set(before).isdisjoint(files)
    assert [pid for pid, names in files.items() if listener in names] == [worker]


def listening_socket(port: int) -> str:
    """The system's name of the socket that listens on a port."""
    (inode,) = [
        row[9] for row in tcp_sockets() if row[1].endswith(f":{port:04X}") and row[3] == LISTENING
    ]
    return f"socket:[{inode}]"


def test_a_worker_that_shuts_down_is_not_counted_any_more(supervisor: SmallFarm) -> None:
    def gpu_workers() -> float:
        return value(exporter_samples(supervisor), "farm_workers", queue="gpu")

    supervisor.children["gpu"].terminate()
    supervisor.children["gpu"].wait()

    assert gpu_workers() == 0

    supervisor.restart_dead()
    wait_for(lambda: gpu_workers() == 1)
