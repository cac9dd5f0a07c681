"""The models that a farm serves, as its gpu workers announce them."""

from __future__ import annotations

import pytest

from farm.registry import Registry
from farm.registry.workers import ALIVE_S, REMEMBERED_S, worker_name
from tests.support.backends import ClockBackend


@pytest.fixture
def clock() -> ClockBackend:
    return ClockBackend()


@pytest.fixture
def workers(clock):
    return Registry(clock).workers


def test_the_default_is_first_and_each_model_is_listed_once(workers):
    workers.announce(["miniature", "flashtalk"])
    workers.announce(["miniature"])
    assert workers.models() == ["miniature", "flashtalk"]


def test_models_of_live_workers_replace_those_of_dead_ones(workers, clock):
    workers.announce(["miniature"])
    clock.advance(ALIVE_S + 1)
    workers.announce(["flashtalk"])
    assert workers.models() == ["flashtalk"]


def test_a_farm_without_workers_keeps_its_models_for_a_day(workers, clock):
    assert workers.models() == []
    workers.announce(["flashtalk"])
    clock.advance(REMEMBERED_S - 1)
    assert workers.models() == ["flashtalk"]
    clock.advance(2)
    assert workers.models() == []


def test_a_worker_without_its_model_is_known_until_it_reports_none_or_ends(workers, clock):
    workers.report_cold("gpu here 1")
    assert workers.cold() == ["gpu here 1"]
    clock.advance(ALIVE_S + 1)
    assert workers.cold() == []
    workers.report_cold("gpu here 1")
    workers.remove("gpu here 1")
    assert workers.cold() == []


def test_the_voices_of_all_speaking_workers_are_known_once_one_has_announced_them(workers, clock):
    assert workers.kokoro_voices() is None
    workers.announce_kokoro([])
    assert workers.kokoro_voices() == []
    workers.announce_kokoro(["af_heart", "bf_emma"])
    assert workers.kokoro_voices() == ["af_heart", "bf_emma"]
    clock.advance(ALIVE_S + 1)
    workers.announce_kokoro(["af_heart"])
    assert workers.kokoro_voices() == ["af_heart"]
    clock.advance(REMEMBERED_S + 1)
    assert workers.kokoro_voices() is None


def test_each_slot_of_a_bridge_counts_as_a_gpu_but_not_as_one_of_the_farms_own(workers):
    workers.heartbeat(worker_name("gpu", "host", 1))
    workers.heartbeat(worker_name("gpu", "host", 2, 3))
    workers.heartbeat(worker_name("bridge", "host", 2))
    assert workers.count_alive() == {"gpu": 4, "bridge": 1}
    assert workers.count_own_gpus() == 1
