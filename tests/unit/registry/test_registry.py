"""Which registry a URL opens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from farm.errors import InvalidInput
from farm.registry import farm_registry, open_registry
from farm.settings import Settings
from tests.support.jobs import REQUEST

ROOT = Path(__file__).parents[3]

WRONG_URLS = ["", "amqp://guest:secret@host", "http://host", "memory", "redis://:secret#x@h"]


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_url_of_another_kind_is_refused_without_its_password(url):
    with pytest.raises(InvalidInput, match="FARM_BROKER_URL") as caught:
        open_registry(url)
    assert "secret" not in str(caught.value.describe(at_stage=""))


def test_two_registries_of_one_broker_see_the_same_jobs(broker):
    open_registry(broker).entries.add("a", REQUEST)
    assert open_registry(broker).jobs.status("a").state == "queued"


def test_two_registries_in_memory_share_nothing():
    open_registry("memory://").entries.add("a", REQUEST)
    assert list(open_registry("memory://").jobs.newest()) == []


@pytest.mark.parametrize(
    ("url", "got"),
    [("http://:secret@redis/0", "http://"), ("secret", "no URL"), (":secret@redis", "no URL")],
)
def test_a_broker_of_another_kind_is_refused_without_any_of_its_password(url, got):
    with pytest.raises(InvalidInput, match=f"^FARM_BROKER_URL: got {got}; allowed: redis://, "):
        open_registry(url)


def test_the_registries_of_two_farms_on_one_broker_share_nothing(broker):
    first, second = (farm_registry(Settings(name=name, broker_url=broker)) for name in "ab")
    first.entries.add("a", REQUEST)
    assert list(second.jobs.newest()) == []


def test_everything_that_runs_opens_the_registry_of_its_farm():
    paths = [path for folder in ("farm", "tasks") for path in (ROOT / folder).rglob("*.py")]
    urls = {
        url
        for path in paths
        if path.parent.name != "registry"
        for url in re.findall(r"\bopen_registry\((.*?)[,)]", path.read_text())
    }
    assert urls == {'"memory://"'}, "only farm_registry knows the farm's name"
