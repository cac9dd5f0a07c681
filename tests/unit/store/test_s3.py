"""Features of S3 stores: uploads in parts, checksums, and settings of the service."""

from __future__ import annotations

import uuid
from io import BytesIO
from typing import Any

import pytest

from farm import Farm
from farm.errors import FarmUnreachable, InvalidInput
from farm.settings import Settings
from tests.support.commands import run_python
from tests.support.swift import Swift, bucket_of, opened

HUGE = 128 << 20
MAX_MEMORY_KB = 64 << 10
"""Bytes of a file, and the memory that its upload and download may take."""

CREDENTIALS = {"FARM_S3_ACCESS_KEY": "key", "FARM_S3_SECRET_KEY": "the-secret"}


def test_a_bucket_is_created_once(swift):
    settings = swift.settings(store_url=f"s3://made-{uuid.uuid4().hex}/farm")
    store = opened(settings)
    assert [store.create_bucket(), store.create_bucket()] == [True, False]
    assert swift.client().bucket_exists(bucket_of(settings))


def test_a_large_file_is_read_back_unchanged(store, large, tmp_path):
    store.put("large", large)
    assert store.fetch("large", tmp_path / "here").read_bytes() == large.read_bytes()
    assert store.size("large") == large.stat().st_size


def test_nothing_is_left_of_a_deleted_large_object(swift, large):
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
    lines = open("/proc/self/status").read().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1])

settings = Settings.model_validate_json(sys.argv[1])
store, source = open_store(settings.store_address, settings), Path(sys.argv[2])
store.put("small", b"object")
store.get("small")
before = most_kb()
store.put("large", source)
put = most_kb()
store.fetch("large", source.with_name("here"))
print(put - before, most_kb() - before)
"""


def test_a_large_file_is_not_held_in_memory(swift, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        for index in range(HUGE >> 20):
            file.write(index.to_bytes(4, "big") * (1 << 18))

    given = [swift.settings().model_dump_json(), str(tmp_path / "large")]
    done = run_python(MEMORY, *given)

    put, fetched = (int(kb) for kb in done.stdout.split())
    assert put <= fetched < MAX_MEMORY_KB


def test_a_listing_of_many_pages_is_complete(store):
    names = [f"jobs/1/{index:03d}" for index in range(12)]
    for name in names:
        store.put(name, b"")
    assert list(store.keys("jobs/")) == names


def test_two_prefixes_of_one_bucket_share_nothing(swift):
    settings = swift.settings()
    other = settings.model_copy(update={"store_url": f"s3://{bucket_of(settings)}/of/b-farm"})
    opened(settings).put("object", b"of one")
    assert opened(other).size("object") is None
    assert list(opened(other).keys("")) == []


def test_a_store_may_use_a_whole_bucket(swift):
    settings = swift.settings()
    whole = opened(settings.model_copy(update={"store_url": f"s3://{bucket_of(settings)}"}))
    opened(settings).put("object", b"object")
    assert list(whole.keys("")) == ["of/a-farm/object"]
    assert whole.get("of/a-farm/object") == b"object"


def test_folders_created_by_a_console_are_not_keys(swift):
    settings = swift.settings()
    swift.client().put_object(bucket_of(settings), "of/a-farm/folder/", BytesIO(), 0)
    assert list(opened(settings).keys("")) == []


def store_directly(swift: Swift, settings: Settings, object: bytes, **metadata: Any) -> None:
    """Stores an object without the store."""
    name = "of/a-farm/object"
    swift.client().put_object(
        bucket_of(settings), name, BytesIO(object), len(object), metadata=metadata
    )


@pytest.mark.parametrize("call", ["get", "fetch"])
def test_corrupted_objects_are_refused(swift, tmp_path, call):
    settings = swift.settings(store_retry_s=0)
    store_directly(swift, settings, b"spoilt", sha256="0" * 64)
    store = opened(settings)
    with pytest.raises(
        FarmUnreachable, match=r"object: the SHA-256 of the download is .*, expected 000"
    ):
        store.get("object") if call == "get" else store.fetch("object", tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_an_object_without_a_checksum_can_be_read(swift):
    settings = swift.settings()
    store_directly(swift, settings, b"object")
    assert opened(settings).get("object") == b"object"


def test_every_object_has_a_checksum(swift):
    settings = swift.settings()
    opened(settings).put("object", b"object")
    found = swift.client().stat_object(bucket_of(settings), "of/a-farm/object")
    assert (
        found.metadata["x-amz-meta-sha256"]
        == "2958d416d08aa5a472d7b509036cb7eafd542add84527e66a145ea64cb4cdc75"
    )


@pytest.mark.parametrize("missing", CREDENTIALS)
def test_a_missing_key_is_named(missing):
    given = {name: value for name, value in CREDENTIALS.items() if name != missing}
    with pytest.raises(InvalidInput, match=f"{missing}: it is missing; an s3:// store needs it"):
        opened(Settings.load({"FARM_STORE_URL": "s3://bucket", **given}))


@pytest.mark.parametrize("name", ["FARM_S3_ENDPOINT", "FARM_S3_PUBLIC_BASE"])
@pytest.mark.parametrize(
    "value", ["minio:9000", "ftp://minio", "http://", "http://minio/below", "http://me:pass@minio"]
)
def test_an_invalid_address_is_refused_without_its_password(name, value):
    with pytest.raises(
        InvalidInput, match=f"{name}: got .*; allowed: http:// or https://"
    ) as caught:
        opened(Settings.load({"FARM_STORE_URL": "s3://bucket", **CREDENTIALS, name: value}))
    assert "pass" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["s3://", "s3://Bucket", "s3://a", "s3://10.0.0.1", "s3://bucket:9000", "s3:bucket"]
)
def test_an_invalid_bucket_is_refused(url):
    with pytest.raises(InvalidInput, match=r"FARM_STORE_URL: .*; allowed: s3://bucket/prefix"):
        opened(Settings.load({"FARM_STORE_URL": url, **CREDENTIALS}))


@pytest.mark.parametrize("prefix", ["..", "a//b", "a/../b", "a\\b"])
def test_an_invalid_prefix_is_refused(prefix):
    with pytest.raises(InvalidInput, match="FARM_STORE_URL: got the prefix"):
        opened(Settings.load({"FARM_STORE_URL": f"s3://bucket/{prefix}", **CREDENTIALS}))


@pytest.mark.parametrize("url", ["s3://key:pass@bucket", "s3://bucket?key=1", "s3://bucket#a"])
def test_an_address_with_more_than_bucket_and_prefix_is_refused(url):
    with pytest.raises(InvalidInput, match="FARM_STORE_URL: got") as caught:
        opened(Settings.load({"FARM_STORE_URL": url, **CREDENTIALS}))
    assert "pass" not in caught.value.message


@pytest.mark.parametrize("url", ["inline://", "redis://127.0.0.1:1/0"])
def test_a_farm_uses_the_bucket_of_its_settings(swift, tmp_path, url):
    settings = swift.settings(home=tmp_path)
    Farm(url, settings=settings).context.store.put("object", b"object")
    assert opened(settings).get("object") == b"object"


def test_the_secret_is_in_no_repr_of_the_store():
    store = opened(Settings.load({"FARM_STORE_URL": "s3://bucket", **CREDENTIALS}))
    assert "the-secret" not in f"{store} {store!r} {vars(store)}"
