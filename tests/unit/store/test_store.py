"""Goods by key: one body of tests over every make of store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from farm.errors import InvalidInput, UploadFailed
from farm.store import keys, open_store
from farm.store.local import LocalStore
from farm.store.memory import MemoryStore
from farm.store.s3 import S3Store
from tests.support.disk import fill, small_disk

BAD_KEYS = ["", "/", "/etc/passwd", "..", "../up", "a/../../b", "a//b", "a/", ".", "./a", "a/./b", "a\0b", "a\\b"]


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "goods")


def files(store: LocalStore) -> list[str]:
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def test_bytes_come_back_as_they_were_put(store):
    store.put("jobs/1/goods", b"\0\xff goods")
    assert store.get("jobs/1/goods") == b"\0\xff goods"


def test_a_file_comes_back_as_it_was_put_and_stays_where_it_was(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"goods")
    store.put("goods", source)
    assert store.get("goods") == source.read_bytes() == b"goods"


def test_what_happens_to_a_file_after_it_was_put_does_not_reach_the_store(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"goods")
    store.put("goods", source)
    source.write_bytes(b"other")
    assert store.get("goods") == b"goods"


def test_an_object_of_no_bytes_is_an_object(store):
    store.put("empty", b"")
    assert (store.get("empty"), store.size("empty"), list(store.keys(""))) == (b"", 0, ["empty"])


def test_putting_again_replaces(store):
    store.put("goods", b"the first, which is longer")
    store.put("goods", b"second")
    assert (store.get("goods"), store.size("goods")) == (b"second", 6)


def test_fetching_makes_a_file(store, tmp_path):
    store.put("goods", b"goods")
    path = store.fetch("goods", tmp_path / "here")
    assert path == tmp_path / "here"
    assert path.read_bytes() == b"goods"


def test_fetching_replaces_a_file(store, tmp_path):
    store.put("goods", b"goods")
    (tmp_path / "here").write_bytes(b"something else")
    assert store.fetch("goods", tmp_path / "here").read_bytes() == b"goods"


def test_a_fetched_file_keeps_its_content_when_the_object_is_replaced(store, tmp_path):
    store.put("goods", b"first")
    path = store.fetch("goods", tmp_path / "here")
    store.put("goods", b"second")
    assert path.read_bytes() == b"first"


def test_the_size_of_what_is_not_there_is_none(store):
    assert store.size("nothing") is None


@pytest.mark.parametrize("call", ["get", "fetch"])
def test_what_is_not_there_is_a_key_error(store, call, tmp_path):
    with pytest.raises(KeyError):
        store.get("nothing") if call == "get" else store.fetch("nothing", tmp_path / "here")


def test_keys_with_a_prefix_come_sorted(store):
    for key in ("jobs/2/b", "jobs/2/a", "jobs/20/a", "jobs/3", "shared/x"):
        store.put(key, b"")
    assert list(store.keys("jobs/2/")) == ["jobs/2/a", "jobs/2/b"]
    assert list(store.keys("jobs/2")) == ["jobs/2/a", "jobs/2/b", "jobs/20/a"]
    assert list(store.keys("")) == ["jobs/2/a", "jobs/2/b", "jobs/20/a", "jobs/3", "shared/x"]


def test_an_unknown_prefix_has_no_keys(store):
    store.put("jobs/1", b"")
    assert list(store.keys("jobs/1/")) == list(store.keys("other/")) == []


def test_a_deleted_object_is_gone(store):
    store.put("jobs/1/goods", b"goods")
    store.delete("jobs/1/goods")
    assert store.size("jobs/1/goods") is None
    assert list(store.keys("")) == []


def test_deleting_what_is_not_there_does_nothing(store):
    store.delete("jobs/1/goods")


@pytest.mark.parametrize("key", ["jobs", "jobs/1/below"])
def test_deleting_what_is_no_object_does_nothing(local, key):
    local.put("jobs/1", b"goods")
    local.delete(key)
    assert local.get("jobs/1") == b"goods"


def test_every_object_has_a_url_of_its_own(store):
    store.put("a", b"")
    store.put("b c", b"")
    assert store.url("a") != store.url("b c")
    assert "://" in store.url("a")


def test_a_page_in_the_store_leads_to_what_lies_near_it(store):
    link = store.link("jobs/1/generate/a b.m4s", page="jobs/1/list.m3u8")
    if isinstance(store, S3Store):  # a name alone would carry no signature
        assert urlsplit(link).scheme == "http"
        assert "X-Amz-Signature" in link
    else:
        assert link == "generate/a%20b.m4s"


def test_a_page_in_the_store_leads_out_of_its_folder(local):
    assert local.link("jobs/2/b.m4s", page="jobs/1/list.m3u8") == "../2/b.m4s"


def test_many_writers_of_one_key_leave_one_whole_object(store):
    def write(letter: int) -> None:
        for _ in range(10):
            store.put("goods", bytes([letter]) * 200_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in b"abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if store.size("goods"):
            seen = store.get("goods")
            assert (len(seen), len(set(seen))) == (200_000, 1)
    assert list(store.keys("")) == ["goods"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_every_make_of_store_refuses_the_keys_that_a_folder_would(store, key):
    with pytest.raises(InvalidInput, match="store key: got"):
        store.put(key, b"goods")


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("call", ["put", "get", "size", "delete", "url", "fetch"])
def test_no_call_follows_a_key_out_of_the_folder(local, key, call, tmp_path):
    arguments = {"put": (key, b"goods"), "fetch": (key, tmp_path / "here")}.get(call, (key,))
    with pytest.raises(InvalidInput, match="store key: got"):
        getattr(local, call)(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_objects_is_not_an_object(local):
    local.put("jobs/1", b"")
    assert local.size("jobs") is None
    with pytest.raises(KeyError):
        local.get("jobs")


def test_a_disk_that_is_away_for_a_moment_is_waited_for(tmp_path):
    root = tmp_path / "store"
    root.write_text("no folder")
    threading.Timer(0.3, lambda: root.unlink()).start()
    LocalStore(root, retry_s=10).put("jobs/1/goods", b"goods")
    assert (root / "jobs/1/goods").read_bytes() == b"goods"


def test_a_put_whose_source_is_missing_fails_and_leaves_nothing(local, tmp_path):
    with pytest.raises(UploadFailed, match="the store could not take jobs/1/goods: No such file"):
        local.put("jobs/1/goods", tmp_path / "missing")
    assert files(local) == []


def test_a_put_that_fails_keeps_the_object_before_it(local, tmp_path):
    local.put("goods", b"first")
    with pytest.raises(UploadFailed):
        local.put("goods", tmp_path)
    assert (local.get("goods"), files(local)) == (b"first", ["goods"])


def test_a_put_onto_a_folder_fails_and_leaves_nothing(local):
    local.put("jobs/1", b"goods")
    with pytest.raises(UploadFailed):
        local.put("jobs", b"goods")
    assert files(local) == ["jobs/1"]


def test_a_disk_that_refuses_is_an_upload_failure_that_may_be_tried_again(tmp_path):
    (tmp_path / "full").write_bytes(b"a file where the folder should be")
    with pytest.raises(UploadFailed, match="could not take goods") as caught:
        LocalStore(tmp_path / "full").put("goods", b"goods")
    assert caught.value.retryable


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    try:
        with small_disk(tmp_path / "small", megabytes=1):
            yield tmp_path / "small"
    except PermissionError as error:
        pytest.skip(str(error))


def test_what_a_full_disk_did_not_take_leaves_nothing(small):
    store = LocalStore(small)
    with pytest.raises(UploadFailed, match=r"could not take jobs/1/goods: No space left on device"):
        store.put("jobs/1/goods", bytes(2 << 20))
    assert files(store) == []
    store.put("jobs/1/goods", bytes(1 << 19))
    assert store.size("jobs/1/goods") == 1 << 19


def test_a_full_disk_is_waited_for(small):
    filler = fill(small / "filler")
    threading.Timer(0.3, filler.unlink).start()
    LocalStore(small, retry_s=10).put("goods", bytes(1 << 19))
    assert files(LocalStore(small)) == ["goods"]


def test_unfinished_parts_are_no_keys(local):
    local.put("jobs/1", b"")
    (local.root / "jobs" / ".part-abc").write_bytes(b"half")
    assert list(local.keys("")) == ["jobs/1"]


def test_opening_a_store_touches_no_disk(tmp_path):
    open_store((tmp_path / "goods").as_uri())
    assert list(tmp_path.iterdir()) == []


def test_a_url_of_a_local_object_leads_to_its_file(local):
    local.put("with space", b"goods")
    assert local.url("with space").startswith("file:///")
    assert local.url("with space").endswith("/goods/with%20space")


def test_a_folder_with_a_space_can_be_a_store(tmp_path):
    store = open_store((tmp_path / "my goods").as_uri())
    store.put("a", b"goods")
    assert (tmp_path / "my goods" / "a").read_bytes() == b"goods"


@pytest.mark.parametrize("url", ["", "s4://bucket", "ftp://host/folder", "file://host/folder", "/folder", "memory:"])
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(InvalidInput, match=r"FARM_STORE_URL: got .*; allowed: file:///folder, s3://bucket/prefix or"):
        open_store(url)


def test_two_stores_in_memory_share_nothing():
    first, second = MemoryStore(), MemoryStore()
    first.put("a", b"goods")
    assert second.size("a") is None


def test_the_same_bytes_have_the_same_upload_key_as_file_and_in_memory(tmp_path):
    (tmp_path / "face").write_bytes(b"face")
    assert keys.upload(b"face") == keys.upload(tmp_path / "face") != keys.upload(b"other")


def test_shared_keys_tell_where_one_part_ends_and_the_next_begins():
    assert keys.shared("text", "ab", "c") != keys.shared("text", "a", "bc") != keys.shared("speech", "a", "bc")


def test_two_attempts_write_under_keys_of_their_own():
    assert keys.attempt("a", "mux", 1, "video.mp4") == "jobs/a/mux/0001/video.mp4"
    assert keys.attempt("a", "mux", 2, "video.mp4") == "jobs/a/mux/0002/video.mp4"
