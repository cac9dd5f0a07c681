"""`farm up`, `farm metrics` and `farm worker`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from farm.client import Farm
from farm.net.address import ListenAddress
from farm.presets import MINIATURE
from farm.settings import Settings
from tests.support.cli import error_line
from tests.support.jobs import FIELDS


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0:5555", "0.0.0.0, which other machines can reach"),
        ("5555", "allowed: ADDRESS:PORT"),
    ],
)
def test_an_invalid_flower_address_is_one_line_and_status_2(run, farm, address, reason):
    result = run("up", "--flower", address)
    assert result.exit_code == 2
    assert result.stderr.startswith("E_INPUT_VALIDATION: flower: got ")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def up(monkeypatch, farm) -> list[str]:
    """What `farm up` opens, without processes; it is stopped at once."""
    opened = []

    @contextmanager
    def open_supervisor(settings: Settings, **_: object) -> Iterator[SimpleNamespace]:
        opened.append("farm")
        yield SimpleNamespace(settings=settings, supervise=Mock(side_effect=KeyboardInterrupt))

    @contextmanager
    def open_page(_: Farm, address: ListenAddress) -> Iterator[None]:
        opened.append(address.url)
        yield

    monkeypatch.setattr("farm.local.supervisor.open_supervisor", open_supervisor)
    monkeypatch.setattr("farm.ui.serve.open_page", open_page)
    monkeypatch.setattr(ListenAddress, "is_listening", False)  # whatever listens at its port here
    return opened


def test_up_says_what_runs_and_serves_the_page_on_request(run, up):
    result = run("up", "--ui")
    assert (result.exit_code, up) == (0, ["farm", "http://127.0.0.1:7860"])
    assert f"miniature: {MINIATURE.good_for}\n" in result.stdout
    assert "the web page is at http://127.0.0.1:7860; Ctrl-C stops it" in result.stdout
    assert result.stdout.endswith("jobs that have not ended go on with the next `farm up`\n")


def test_up_refuses_a_page_for_everyone_before_it_starts_anything(run, up):
    assert "ui: got 0.0.0.0, which other machines" in error_line(run("up", "--ui", "0.0.0.0:7860"))
    assert up == []


def test_metrics_once_prints_them(run, farm):
    farm.submit(FIELDS)
    result = run("metrics", "--once")
    assert result.exit_code == 0
    assert "farm_live_jobs 1.0\n" in result.output
    assert "# HELP farm_queue_length queued messages" in result.output


def test_metrics_need_an_address(run):
    result = run("metrics")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "E_INPUT_VALIDATION: FARM_METRICS_ADDRESS: not set; allowed: PORT or HOST:PORT\n"
    )


def test_metrics_report_a_port_in_use(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("metrics", FARM_METRICS_ADDRESS=address)
    assert result.exit_code == 2
    assert f"FARM_METRICS_ADDRESS: got '{address}'; Address already in use" in result.stderr


@pytest.mark.parametrize("kind", ["cpu", "gpu", "downloads", "bridge"])
@pytest.mark.parametrize("broker_url", ["runpod://abc123", "memory://"])
def test_a_worker_of_a_broker_of_an_unknown_kind_is_refused(run, kind, broker_url):
    line = error_line(run("worker", kind, FARM_BROKER_URL=broker_url))

    assert "allowed: redis://, rediss://, amqp:// or amqps://" in line
