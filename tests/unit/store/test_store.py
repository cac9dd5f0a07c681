"""Objects by key: the same tests for every kind of store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from farm.errors import InvalidInput, UploadFailed
from farm.store import keys, open_store
from farm.store.local import LocalStore
from farm.store.memory import MemoryStore
from farm.store.s3 import S3Store
from tests.support.disk import fill_disk, small_disk

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../up",
    "a/../../b",
    "a//b",
    "a/",
    ".",
    "./a",
    "a/./b",
    "a\0b",
    "a\\b",
]


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: LocalStore) -> list[str]:
    return sorted(
        path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file()
    )


def test_bytes_are_read_back_unchanged(store):
    store.put("jobs/1/object", b"\0\xff object")
    assert store.get("jobs/1/object") == b"\0\xff object"


def test_a_file_is_read_back_unchanged_and_not_moved(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"object")
    store.put("object", source)
    assert store.get("object") == source.read_bytes() == b"object"


def test_later_changes_of_a_file_do_not_change_the_object(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"object")
    store.put("object", source)
    source.write_bytes(b"other")
    assert store.get("object") == b"object"


def test_a_range_of_an_object_is_read(store):
    store.put("letters", b"abcdef")
    assert store.get_range("letters", 0, 6) == b"abcdef"
    assert store.get_range("letters", 2, 4) == b"cd"
    assert store.get_range("letters", 5, 6) == b"f"


def test_an_empty_object_exists(store):
    store.put("empty", b"")
    assert (store.get("empty"), store.size("empty"), list(store.keys(""))) == (b"", 0, ["empty"])


def test_a_second_put_replaces_the_object(store):
    store.put("object", b"the first, which is longer")
    store.put("object", b"second")
    assert (store.get("object"), store.size("object")) == (b"second", 6)


def test_fetching_writes_a_file(store, tmp_path):
    store.put("object", b"object")
    path = store.fetch("object", tmp_path / "here")
    assert path == tmp_path / "here"
    assert path.read_bytes() == b"object"


def test_fetching_replaces_a_file(store, tmp_path):
    store.put("object", b"object")
    (tmp_path / "here").write_bytes(b"something else")
    assert store.fetch("object", tmp_path / "here").read_bytes() == b"object"


def test_a_fetched_file_stays_unchanged_when_the_object_is_replaced(store, tmp_path):
    store.put("object", b"first")
    path = store.fetch("object", tmp_path / "here")
    store.put("object", b"second")
    assert path.read_bytes() == b"first"


def test_the_size_of_a_missing_object_is_none(store):
    assert store.size("nothing") is None


@pytest.mark.parametrize("call", ["get", "fetch"])
def test_a_missing_object_is_a_key_error(store, call, tmp_path):
    with pytest.raises(KeyError):
        store.get("nothing") if call == "get" else store.fetch("nothing", tmp_path / "here")


def test_keys_with_a_prefix_are_sorted(store):
    for key in ("jobs/2/b", "jobs/2/a", "jobs/20/a", "jobs/3", "shared/x"):
        store.put(key, b"")
    assert list(store.keys("jobs/2/")) == ["jobs/2/a", "jobs/2/b"]
    assert list(store.keys("jobs/2")) == ["jobs/2/a", "jobs/2/b", "jobs/20/a"]
    assert list(store.keys("")) == ["jobs/2/a", "jobs/2/b", "jobs/20/a", "jobs/3", "shared/x"]


def test_the_store_knows_when_objects_were_written(store):
    assert store.written_at("uploads/") == store.written_at("uploads/1") == {}
    for key in ("uploads/1", "uploads/2", "shared/text/1"):
        store.put(key, b"x")
    assert store.written_at("uploads/").keys() == {"uploads/1", "uploads/2"}
    assert store.written_at("uploads/1").keys() == {"uploads/1"}
    assert store.written_at("shared/text/1")["shared/text/1"] == pytest.approx(time.time(), abs=30)


def test_an_unknown_prefix_has_no_keys(store):
    store.put("jobs/1", b"")
    assert list(store.keys("jobs/1/")) == list(store.keys("other/")) == []


def test_a_deleted_object_is_gone(store):
    store.put("jobs/1/object", b"object")
    store.delete("jobs/1/object")
    assert store.size("jobs/1/object") is None
    assert list(store.keys("")) == []


def test_deleting_a_missing_object_does_nothing(store):
    store.delete("jobs/1/object")


@pytest.mark.parametrize("key", ["jobs", "jobs/1/below"])
def test_deleting_a_folder_does_nothing(local, key):
    local.put("jobs/1", b"object")
    local.delete(key)
    assert local.get("jobs/1") == b"object"


def test_every_object_has_its_own_url(store):
    store.put("a", b"")
    store.put("b c", b"")
    assert store.url("a") != store.url("b c")
    assert "://" in store.url("a")


def test_a_page_links_to_an_object_in_a_folder_below(store):
    link = store.link("jobs/1/generate/a b.m4s", page="jobs/1/list.m3u8")
    if isinstance(store, S3Store):  # a name alone would carry no signature
        assert urlsplit(link).scheme == "http"
        assert "X-Amz-Signature" in link
    else:
        assert link == "generate/a%20b.m4s"


def test_a_page_links_to_an_object_in_another_folder(local):
    assert local.link("jobs/2/b.m4s", page="jobs/1/list.m3u8") == "../2/b.m4s"


def test_concurrent_writers_of_one_key_leave_one_complete_object(store):
    def write(letter: int) -> None:
        for _ in range(10):
            store.put("object", bytes([letter]) * 200_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in b"abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if store.size("object"):
            seen = store.get("object")
            assert (len(seen), len(set(seen))) == (200_000, 1)
    assert list(store.keys("")) == ["object"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_every_store_refuses_invalid_keys(store, key):
    with pytest.raises(InvalidInput, match="store key: got"):
        store.put(key, b"object")


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("call", ["put", "get", "size", "delete", "url", "fetch"])
def test_no_call_leaves_the_folder(local, key, call, tmp_path):
    arguments = {"put": (key, b"object"), "fetch": (key, tmp_path / "here")}.get(call, (key,))
    with pytest.raises(InvalidInput, match="store key: got"):
        getattr(local, call)(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_objects_is_not_an_object(local):
    local.put("jobs/1", b"")
    assert local.size("jobs") is None
    with pytest.raises(KeyError):
        local.get("jobs")


def test_a_disk_that_is_missing_for_a_moment_is_waited_for(tmp_path):
    root = tmp_path / "store"
    root.write_text("no folder")
    threading.Timer(0.3, lambda: root.unlink()).start()
    LocalStore(root, retry_s=10).put("jobs/1/object", b"object")
    assert (root / "jobs/1/object").read_bytes() == b"object"


def test_a_put_whose_source_is_missing_fails_and_leaves_nothing(local, tmp_path):
    with pytest.raises(UploadFailed, match="the store could not take jobs/1/object: No such file"):
        local.put("jobs/1/object", tmp_path / "missing")
    assert files(local) == []


def test_a_failed_put_keeps_the_previous_object(local, tmp_path):
    local.put("object", b"first")
    with pytest.raises(UploadFailed):
        local.put("object", tmp_path)
    assert (local.get("object"), files(local)) == (b"first", ["object"])


def test_a_put_onto_a_folder_fails_and_leaves_nothing(local):
    local.put("jobs/1", b"object")
    with pytest.raises(UploadFailed):
        local.put("jobs", b"object")
    assert files(local) == ["jobs/1"]


def test_a_disk_error_is_a_retryable_upload_failure(tmp_path):
    (tmp_path / "full").write_bytes(b"a file where the folder should be")
    with pytest.raises(UploadFailed, match="could not take object") as caught:
        LocalStore(tmp_path / "full").put("object", b"object")
    assert caught.value.retryable


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    try:
        with small_disk(tmp_path / "small", megabytes=1):
            yield tmp_path / "small"
    except PermissionError as error:
        pytest.skip(str(error))


def test_a_put_onto_a_full_disk_leaves_nothing(small):
    store = LocalStore(small)
    with pytest.raises(
        UploadFailed, match=r"could not take jobs/1/object: No space left on device"
    ):
        store.put("jobs/1/object", bytes(2 << 20))
    assert files(store) == []
    store.put("jobs/1/object", bytes(1 << 19))
    assert store.size("jobs/1/object") == 1 << 19


def test_a_full_disk_is_waited_for(small):
    filler = fill_disk(small / "filler")
    threading.Timer(0.3, filler.unlink).start()
    LocalStore(small, retry_s=10).put("object", bytes(1 << 19))
    assert files(LocalStore(small)) == ["object"]


def test_unfinished_parts_are_not_keys(local):
    local.put("jobs/1", b"")
    (local.root / "jobs" / ".part-abc").write_bytes(b"half")
    assert list(local.keys("")) == ["jobs/1"]


def test_opening_a_store_touches_no_disk(tmp_path):
    open_store((tmp_path / "store").as_uri())
    assert list(tmp_path.iterdir()) == []


def test_a_url_of_a_local_object_is_its_files(local):
    local.put("with space", b"object")
    assert local.url("with space").startswith("file:///")
    assert local.url("with space").endswith("/store/with%20space")


def test_a_folder_with_a_space_can_be_a_store(tmp_path):
    store = open_store((tmp_path / "my store").as_uri())
    store.put("a", b"object")
    assert (tmp_path / "my store" / "a").read_bytes() == b"object"


@pytest.mark.parametrize(
    "url", ["", "s4://bucket", "ftp://host/folder", "file://host/folder", "/folder", "memory:"]
)
def test_an_unknown_kind_of_address_is_refused(url):
    with pytest.raises(
        InvalidInput,
        match=r"FARM_STORE_URL: got .*; allowed: file:///folder, s3://bucket/prefix or",
    ):
        open_store(url)


def test_two_stores_in_memory_share_nothing():
    first = MemoryStore()
    second = MemoryStore()
    first.put("a", b"object")
    assert second.size("a") is None


def test_upload_keys_depend_on_the_content_only(tmp_path):
    (tmp_path / "face").write_bytes(b"face")
    assert keys.upload(b"face") == keys.upload(tmp_path / "face") != keys.upload(b"other")


def test_shared_keys_depend_on_the_boundaries_of_parts():
    assert (
        keys.shared("text", "ab", "c")
        != keys.shared("text", "a", "bc")
        != keys.shared("speech", "a", "bc")
    )


def test_attempts_have_separate_keys():
    assert keys.attempt("a", "mux", "0001-7f3a", "video.mp4") == "jobs/a/mux/0001-7f3a/video.mp4"
    assert keys.attempt("a", "mux", "0001-9b0e", "video.mp4") == "jobs/a/mux/0001-9b0e/video.mp4"
