"""A worker says at its start that its broker may evict jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.support.commands import run_python

START = """
from celery.signals import worker_init
from farm.logs import configure
import farm.tasks.celery

configure()
worker_init.send(None)
"""


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_a_worker_warns_of_a_broker_that_evicts_keys(broker: str, tmp_path: Path, policy: str):
    with redis.Redis.from_url(broker) as client:
        client.config_set("maxmemory-policy", policy)
        try:
            done = run_python(START, FARM_BROKER_URL=broker, FARM_HOME=str(tmp_path))
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    warned = [line for line in done.stderr.splitlines() if "broker_may_evict" in line]
    assert [policy in line for line in warned] == ([] if policy == "noeviction" else [True])
