"""A worker says at its start that its broker may evict jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

START = """
from celery.signals import worker_init
from farm.logs import configure
import tasks.celery

configure()
worker_init.send(None)
"""


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_a_worker_warns_of_a_broker_that_evicts_keys(broker: str, tmp_path: Path, policy: str):
    environ = {**os.environ, "FARM_BROKER_URL": broker, "FARM_HOME": str(tmp_path)}
    with redis.Redis.from_url(broker) as client:
        client.config_set("maxmemory-policy", policy)
        try:
            done = subprocess.run(
                [sys.executable, "-c", START],
                env=environ,
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    warned = [line for line in done.stderr.splitlines() if "broker_may_evict" in line]
    assert [policy in line for line in warned] == ([] if policy == "noeviction" else [True])
