"""A gateway whose farm does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.client import Farm
from farm.local.broker import Broker
from farm.settings import Settings
from tests.support.gateway import running_gateway
from tests.support.jobs import FIELDS


@pytest.fixture
def broker_of_its_own(tmp_path: Path) -> Broker:
    return Broker(Settings(home=tmp_path / "broker"))


def test_an_outage_is_503_and_says_nothing_of_where_the_farm_is(
    broker_of_its_own: Broker, tmp_path: Path
):
    url = broker_of_its_own.url
    farm = Farm(settings=Settings(home=tmp_path / "home", broker_url=url), local_files=False)
    with running_gateway(farm) as client:
        job_id = client.submit(FIELDS)
        broker_of_its_own.stop()

        answers = [
            client.get(f"status/{job_id}"),
            client.post("run", {"input": FIELDS}),
            client.send("GET", "/readyz"),
        ]

        assert client.send("GET", "/healthz").status == 200
    for answer in answers:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.body["error"]["retryable"]
        assert "127.0.0.1" not in str(answer.body)
