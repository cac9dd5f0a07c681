"""A store of signed URLs reaches the granted objects, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farm.errors import InvalidInput
from farm.store.signed import Grants, SignedStore

OTHER = "jobs/of-another/mux/0001-00/video.mp4"

REFUSED: dict[str, Callable[[SignedStore, Path], object]] = {
    "get": lambda store, folder: store.get(OTHER),
    "fetch": lambda store, folder: store.fetch(OTHER, folder / "video.mp4"),
    "prefetch": lambda store, folder: store.prefetch([OTHER]),
    "put": lambda store, folder: store.put(OTHER, b"x"),
    "put a file": lambda store, folder: store.put("shared/text/1", folder),
    "delete": lambda store, folder: store.delete(OTHER),
    "url": lambda store, folder: store.url(OTHER),
}


@pytest.fixture
def store(tmp_path: Path) -> SignedStore:
    url = "http://127.0.0.1:1/granted"
    return SignedStore(Grants(reads={"read": url}, writes={"written": url}), tmp_path)


@pytest.mark.parametrize("access", REFUSED.values(), ids=REFUSED)
def test_what_is_not_granted_is_refused(store, tmp_path, access):
    with pytest.raises(InvalidInput, match="allowed: the objects that the order grants"):
        access(store, tmp_path)


def test_what_may_be_written_may_not_be_read(store):
    with pytest.raises(InvalidInput, match="'written'"):
        store.get("written")


def test_nothing_of_the_farm_is_listed(store):
    assert list(store.keys("jobs/")) == list(store.keys("read")) == []


def test_features_stay_in_this_process(store, tmp_path):
    store.put("shared/text/test-of-features", b"features")
    other = SignedStore(Grants(reads={}, writes={}), tmp_path)
    assert other.get("shared/text/test-of-features") == b"features"
    assert "shared/text/test-of-features" in other.written_at("shared/text/")
