"""Two farms on one Redis, each with its own name and store: nothing of one reaches the other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.errors import InvalidInput
from farm.local.broker import Broker
from farm.monitoring.exporter import FarmCollector, exposition
from farm.net.address import ListenAddress
from farm.queue.app import make_app
from farm.settings import Settings
from tests.support.flower import FLOWER_AUTH, ask_flower
from tests.support.ports import free_port
from tests.support.small_farm import DEFAULTS, KINDS, QUEUES, SmallFarm
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker for both."""
    broker = Broker(Settings(home=tmp_path_factory.mktemp("broker")))
    yield broker.url
    broker.stop()


@contextmanager
def named_farm(
    url: str, home: Path, name: str, flower: ListenAddress | None = None
) -> Iterator[SmallFarm]:
    """A farm with this name on the broker, which has no workers until it is started."""
    fields = {**DEFAULTS, "name": name, "home": home, "broker_url": url}
    fields |= {"flower_auth": FLOWER_AUTH, "remote_control": True}
    farm = SmallFarm(fields, flower=flower)
    try:
        yield farm
    finally:
        farm.stop()


@pytest.fixture(scope="module")
def flower() -> ListenAddress:
    """Flower of the first farm."""
    return ListenAddress("127.0.0.1", free_port())


@pytest.fixture(scope="module")
def first(
    url: str, flower: ListenAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SmallFarm]:
    """A running farm."""
    with named_farm(url, tmp_path_factory.mktemp("first"), "first", flower) as farm:
        farm.start()
        farm.wait_until_ready()
        yield farm


@pytest.fixture(scope="module")
def second(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    """A farm whose workers have not been started."""
    with named_farm(url, tmp_path_factory.mktemp("second"), "second") as farm:
        yield farm


@pytest.fixture
def given(portrait: Path, voice: Path) -> dict[str, Any]:
    return {"prompt": "x", "cond_video": str(portrait), "cond_audio": {"person1": str(voice)}}


@contextmanager
def watched(settings: Settings) -> Iterator[list[dict[str, Any]]]:
    """The events that a monitor of a farm receives."""
    events: list[dict[str, Any]] = []
    app = make_app(settings)
    receiver = app.events.Receiver(app.connection_for_read(), handlers={"*": events.append})
    arguments = {"limit": None, "timeout": None, "wakeup": False}
    thread = threading.Thread(target=receiver.capture, kwargs=arguments)
    thread.start()
    try:
        wait_for(lambda: events)  # subscribed
        yield events
    finally:
        receiver.should_stop = True
        thread.join()
        receiver.connection.release()


def queue_length(settings: Settings) -> float:
    """Messages in the queues of a farm, as its exporter counts them."""
    lines = exposition(FarmCollector(settings)).splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("farm_queue_length{"))


def test_neither_jobs_nor_remote_control_nor_events_of_one_reach_the_other(
    first: SmallFarm, second: SmallFarm, given: dict[str, Any]
) -> None:
    ours, theirs = Farm(settings=first.settings), Farm(settings=second.settings)
    with watched(first.settings) as events:
        # Given a job of the second farm, which has no workers, before one of the first
        waiting = theirs.submit(given)
        job = ours.submit(given)
        assert job.wait().state == "success"
        # Then it waits, and only the second farm knows it
        assert waiting.status().state == "queued"
        assert (queue_length(first.settings), queue_length(second.settings)) == (0, 1)
        assert [status.job_id for status in theirs.jobs()] == [waiting.id]
        with pytest.raises(InvalidInput, match="there is no such job"):
            ours.job(waiting.id)
        # When it has workers, they make it, in its store
        second.start()
        second.wait_until_ready()
        assert waiting.wait().state == "success"
        assert set(theirs.context.store.keys(f"jobs/{waiting.id}/"))
        assert not set(ours.context.store.keys(f"jobs/{waiting.id}/"))
        # And each farm's remote control reaches its own workers only
        control = make_app(second.settings).control
        assert len(control.ping(timeout=2)) == len(KINDS)
        control.shutdown()
        for child in second.children.values():
            child.wait()
        assert len(make_app(first.settings).control.ping(timeout=2)) == len(KINDS)
        wait_for(lambda: [each for each in events if each.get("uuid") == f"{job.id}-mux-a1"])
    assert not [each for each in events if waiting.id in each.get("uuid", "")]


def test_flower_shows_one_farm(
    first: SmallFarm, second: SmallFarm, flower: ListenAddress, given: dict[str, Any]
) -> None:
    waiting = Farm(settings=second.settings).submit(given)
    job = Farm(settings=first.settings).submit(given)
    job.wait()

    tasks = wait_for(lambda: shown_with(flower, f"{job.id}-mux-a1"))
    lengths = wait_for(lambda: lengths_with(flower, len(QUEUES)))

    assert not [task for task in tasks if waiting.id in task]
    assert lengths == dict.fromkeys(QUEUES, 0)


def lengths_with(flower: ListenAddress, queues: int) -> dict[str, int]:
    """The lengths of the queues once Flower has heard of the workers of so many."""
    ask_flower(flower, "/api/workers?refresh=1")
    found = ask_flower(flower, "/api/queues/length")["active_queues"]
    return {each["name"]: each["messages"] for each in found} if len(found) == queues else {}


def shown_with(flower: ListenAddress, task_id: str) -> list[str]:
    """The tasks that Flower shows once it shows this one."""
    tasks = list(ask_flower(flower, "/api/tasks"))
    return tasks if task_id in tasks else []


def test_another_store_under_the_same_name_is_refused_by_clients_and_workers(
    url: str, tmp_path: Path, given: dict[str, Any]
) -> None:
    right = Settings(home=tmp_path / "right", broker_url=url, name="right")
    wrong = right.model_copy(update={"store_url": (tmp_path / "wrong").as_uri()})
    Farm(settings=right).submit(given).cancel()
    # A client
    with pytest.raises(InvalidInput, match="FARM_STORE_URL, FARM_BROKER_URL, FARM_NAME"):
        Farm(settings=wrong).submit(given)
    # A worker
    environ = {"FARM_NAME": "right", "FARM_HOME": str(wrong.home), "FARM_BROKER_URL": url}
    done = subprocess.run(
        [sys.executable, "-m", "farm", "worker", "cpu"],
        env={**os.environ, **environ, "FARM_STORE_URL": str(wrong.store_url)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "worker_refused" in done.stderr
    assert "FARM_STORE_URL, FARM_BROKER_URL, FARM_NAME" in done.stderr
    assert not (tmp_path / "wrong" / "farm.json").exists()
