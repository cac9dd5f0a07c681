"""What a bridge needs, said in one sentence before it starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from farm.errors import InvalidInput
from farm.runpod.bridge import open_bridge
from farm.settings import Settings
from tests.unit.runpod.test_overflow import S3

MISSING = {
    "RUNPOD_ENDPOINT_ID: not set": {"runpod_endpoint_id": None},
    "RUNPOD_API_KEY: it is not set": {"runpod_api_key": None},
    "FARM_BRIDGE_PRICE_PER_S: not set": {"bridge_cost_per_hour": 5},
    "FARM_STEP_TIMEOUT_S: got 400000": {"step_timeout_s": 400_000},
    "FARM_STORE_URL: got 'file:///tmp/x'": {"store_url": "file:///tmp/x"},
    "FARM_S3_SECRET_KEY: it is missing": {"s3_secret_key": None},
}


@pytest.mark.parametrize(("message", "changes"), MISSING.items(), ids=MISSING)
def test_a_bridge_names_what_it_lacks(message, changes):
    with pytest.raises(InvalidInput, match=message):
        open_bridge(Settings.model_validate({**S3, **changes}))


@pytest.mark.parametrize(
    "command",
    [["-m", "farm", "worker", "bridge"], ["-m", "celery", "-A", "farm.tasks.bridge", "worker"]],
    ids=["farm", "celery"],
)
def test_a_bridge_on_a_folder_ends_with_one_sentence(command, tmp_path, broker):
    environ = {
        **os.environ,
        "FARM_HOME": str(tmp_path),
        "FARM_BROKER_URL": broker,
        "RUNPOD_ENDPOINT_ID": "e",
        "RUNPOD_API_KEY": "rpa_secret",
    }
    ended = subprocess.run(
        [sys.executable, *command], env=environ, capture_output=True, text=True, check=False
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert said.count("a bridge needs a store that the endpoint's workers can reach") == 1
    assert "Traceback" not in said
    assert "rpa_secret" not in said
