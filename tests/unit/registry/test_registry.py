"""Which registry a URL opens."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.registry import open_registry
from tests.support.jobs import REQUEST

WRONG_URLS = ["", "amqp://guest:secret@host", "http://host", "memory", "redis://:secret#x@h"]


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_url_of_another_kind_is_refused_without_its_password(url):
    with pytest.raises(InvalidInput, match="FARM_BROKER_URL") as caught:
        open_registry(url)
    assert "secret" not in str(caught.value.describe(at_stage=""))


def test_two_registries_of_one_broker_see_the_same_jobs(broker):
    open_registry(broker).jobs.add("a", REQUEST)
    assert open_registry(broker).jobs.status("a").state == "queued"


def test_two_registries_in_memory_share_nothing():
    open_registry("memory://").jobs.add("a", REQUEST)
    assert list(open_registry("memory://").jobs.newest()) == []
