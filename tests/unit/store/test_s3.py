"""What only a store on S3 has: large objects in parts, checksums, and a service that the settings name."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.errors import FarmUnreachable, InvalidInput
from farm.settings import Settings
from farm.store import Store
from farm.store.s3 import PART_BYTES
from tests.support.swift import Swift, bucket_of, opened

LARGE = 2 * PART_BYTES + 12_345
"""Bytes that are sent in three parts."""

LARGEST, MOST_KB = 128 << 20, 64 << 10
"""Bytes of a file, and what its way to the store and back may take of a process's memory."""

QUEUE_KEYS = {"FARM_S3_ACCESS_KEY": "key", "FARM_S3_SECRET_KEY": "the-secret"}


@pytest.fixture
def store(swift: Swift) -> Store:
    return opened(swift.settings())


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file no part of which is like another."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        for index in range(LARGE // 1000 + 1):
            file.write(b"%999d\n" % index)
        file.truncate(LARGE)
    return path


def test_a_large_file_comes_back_as_it_was_put(store, large, tmp_path):
    store.put("large", large)
    assert store.fetch("large", tmp_path / "here").read_bytes() == large.read_bytes()
    assert store.size("large") == LARGE


def test_nothing_is_left_of_a_large_object_that_was_deleted(swift, large):
    settings = swift.settings()
    store = opened(settings)
    store.put("large", large)
    store.delete("large")
    assert list(swift.client().list_objects(bucket_of(settings), recursive=True)) == []


MEMORY = """
import sys
from pathlib import Path
from farm.settings import Settings
from farm.store import open_store

def most_kb():  # of this process's own memory; ru_maxrss would begin with the parent's
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

settings = Settings.model_validate_json(sys.argv[1])
store, source = open_store(settings.store_address, settings), Path(sys.argv[2])
store.put("small", b"goods")
store.get("small")
before = most_kb()
store.put("large", source)
put = most_kb()
store.fetch("large", source.with_name("here"))
print(put - before, most_kb() - before)
"""


def test_a_large_file_does_not_go_through_memory_as_a_whole(swift, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        for index in range(LARGEST >> 20):
            file.write(index.to_bytes(4, "big") * (1 << 18))

    given = [swift.settings().model_dump_json(), str(tmp_path / "large")]
    done = subprocess.run([sys.executable, "-c", MEMORY, *given], capture_output=True, text=True, check=True)

    put, fetched = (int(kb) for kb in done.stdout.split())
    assert put <= fetched < MOST_KB


def test_a_listing_of_many_pages_is_whole(store):
    names = [f"jobs/1/{index:03d}" for index in range(12)]
    for name in names:
        store.put(name, b"")
    assert list(store.keys("jobs/")) == names


def test_two_prefixes_of_one_bucket_share_nothing(swift):
    settings = swift.settings()
    other = settings.model_copy(update={"store_url": f"s3://{bucket_of(settings)}/of/b-farm"})
    opened(settings).put("goods", b"of one")
    assert opened(other).size("goods") is None
    assert list(opened(other).keys("")) == []


def test_a_bucket_may_be_all_the_stores_own(swift):
    settings = swift.settings()
    whole = opened(settings.model_copy(update={"store_url": f"s3://{bucket_of(settings)}"}))
    opened(settings).put("goods", b"goods")
    assert list(whole.keys("")) == ["of/a-farm/goods"]
    assert whole.get("of/a-farm/goods") == b"goods"


def test_the_folders_that_a_console_shows_are_no_keys(swift):
    settings = swift.settings()
    swift.client().put_object(bucket_of(settings), "of/a-farm/folder/", BytesIO(), 0)
    assert list(opened(settings).keys("")) == []


def lay(swift: Swift, settings: Settings, goods: bytes, **metadata: Any) -> None:
    """Puts an object past the store."""
    name = "of/a-farm/goods"
    swift.client().put_object(bucket_of(settings), name, BytesIO(goods), len(goods), metadata=metadata)


@pytest.mark.parametrize("call", ["get", "fetch"])
def test_bytes_that_are_not_those_that_were_put_are_refused(swift, tmp_path, call):
    settings = swift.settings(store_retry_s=0)
    lay(swift, settings, b"spoilt", sha256="0" * 64)
    store = opened(settings)
    with pytest.raises(FarmUnreachable, match="goods: what came has another SHA-256 than what was put"):
        store.get("goods") if call == "get" else store.fetch("goods", tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_an_object_of_others_that_has_no_checksum_can_be_read(swift):
    settings = swift.settings()
    lay(swift, settings, b"goods")
    assert opened(settings).get("goods") == b"goods"


def test_every_object_carries_its_checksum(swift):
    settings = swift.settings()
    opened(settings).put("goods", b"goods")
    found = swift.client().stat_object(bucket_of(settings), "of/a-farm/goods")
    assert found.metadata["x-amz-meta-sha256"] == "089857f9c407941715faed7f7321a5534f6f825b0d2c074d86e62ffe95071d76"


@pytest.mark.parametrize("missing", QUEUE_KEYS)
def test_a_missing_key_is_named(missing):
    given = {name: value for name, value in QUEUE_KEYS.items() if name != missing}
    with pytest.raises(InvalidInput, match=f"{missing}: it is missing; an s3:// store needs it"):
        opened(Settings.load({"FARM_STORE_URL": "s3://goods", **given}))


@pytest.mark.parametrize("name", ["FARM_S3_ENDPOINT", "FARM_S3_PUBLIC_BASE"])
@pytest.mark.parametrize(
    "value", ["minio:9000", "ftp://minio", "http://", "http://minio/below", "http://me:pass@minio"]
)
def test_an_address_that_is_none_is_refused_without_its_password(name, value):
    with pytest.raises(InvalidInput, match=f"{name}: got .*; allowed: http:// or https://") as caught:
        opened(Settings.load({"FARM_STORE_URL": "s3://goods", **QUEUE_KEYS, name: value}))
    assert "pass" not in caught.value.message


@pytest.mark.parametrize("url", ["s3://", "s3://Goods", "s3://a", "s3://10.0.0.1", "s3://goods:9000", "s3:goods"])
def test_a_bucket_that_no_service_would_take_is_refused(url):
    with pytest.raises(InvalidInput, match=r"FARM_STORE_URL: .*; allowed: s3://bucket/prefix"):
        opened(Settings.load({"FARM_STORE_URL": url, **QUEUE_KEYS}))


@pytest.mark.parametrize("prefix", ["..", "a//b", "a/../b", "a\\b"])
def test_a_prefix_that_no_key_could_begin_with_is_refused(prefix):
    with pytest.raises(InvalidInput, match="FARM_STORE_URL: got the prefix"):
        opened(Settings.load({"FARM_STORE_URL": f"s3://goods/{prefix}", **QUEUE_KEYS}))


@pytest.mark.parametrize("url", ["s3://key:pass@goods", "s3://goods?key=1", "s3://goods#a"])
def test_an_address_holds_no_more_than_bucket_and_prefix(url):
    with pytest.raises(InvalidInput, match="FARM_STORE_URL: got") as caught:
        opened(Settings.load({"FARM_STORE_URL": url, **QUEUE_KEYS}))
    assert "pass" not in caught.value.message


@pytest.mark.parametrize("url", ["inline://", "redis://127.0.0.1:1/0"])
def test_a_farm_keeps_its_goods_in_the_bucket_of_its_settings(swift, tmp_path, url):
    settings = swift.settings(home=tmp_path)
    Farm(url, settings=settings).context.store.put("goods", b"goods")
    assert opened(settings).get("goods") == b"goods"


def test_the_secret_is_in_no_repr_of_the_store():
    store = opened(Settings.load({"FARM_STORE_URL": "s3://goods", **QUEUE_KEYS}))
    assert "the-secret" not in f"{store} {store!r} {vars(store)}"
