"""Presigned URLs of S3 objects: lifetime, tampering, and addresses."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from farm.settings import Settings
from tests.support.swift import (
    SECRET_KEY,
    STRANGERS_KEY,
    STRANGERS_SECRET,
    bucket_of,
    opened,
)
from tests.support.waiting import wait_for

CREDENTIALS = {"FARM_S3_ACCESS_KEY": "key", "FARM_S3_SECRET_KEY": "the-secret"}


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_url_serves_the_object_with_its_content_type(store):
    store.put("jobs/1/a video.mp4", b"moving")
    with urllib.request.urlopen(store.url("jobs/1/a video.mp4")) as response:
        assert (response.read(), response.headers["Content-Type"]) == (b"moving", "video/mp4")


def test_a_url_does_not_contain_the_secret(store):
    assert SECRET_KEY not in store.url("object")


def test_a_url_expires(swift):
    store = opened(swift.settings(s3_link_s=1))
    store.put("object", b"object")
    url = store.url("object")
    wait_for(lambda: status_of(url) == 403)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("/object?", "/others?"),
        ("X-Amz-Expires=604800", "X-Amz-Expires=604799"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("127.0.0.1", "localhost"),
    ],
)
def test_a_modified_url_is_refused(store, was, becomes):
    store.put("object", b"object")
    store.put("others", b"other")
    url = store.url("object")
    assert status_of(url) == 200
    assert was in url
    assert status_of(url.replace(was, becomes, 1)) == 403


def test_a_url_without_its_signature_is_refused(store):
    store.put("object", b"object")
    assert status_of(store.url("object").partition("?")[0]) in (400, 403)


@pytest.mark.parametrize("key", [STRANGERS_KEY, "farm:worker", "unknown:user"])
def test_a_url_signed_by_another_user_is_refused(swift, key):
    settings = swift.settings()
    opened(settings).put("object", b"object")
    stranger = swift.client(key, STRANGERS_SECRET)
    assert status_of(stranger.presigned_get_object(bucket_of(settings), "of/a-farm/object")) in (
        403,
        404,
    )


def test_a_url_uses_the_public_address(swift):
    public = swift.endpoint.replace("127.0.0.1", "localhost")
    store = opened(swift.settings(s3_public_base=public))
    store.put("object", b"object")
    assert store.url("object").startswith(f"{public}/")
    assert status_of(store.url("object")) == 200


def test_a_url_can_name_the_bucket_in_the_host(swift):
    public = swift.endpoint.replace("127.0.0.1", "localhost")
    settings = swift.settings()
    opened(settings).put("object", b"object")
    url = urlsplit(
        opened(settings.model_copy(update={"s3_path_style": False, "s3_public_base": public})).url(
            "object"
        )
    )
    connection = HTTPConnection(
        "127.0.0.1", swift.ports["proxy"]
    )  # where a wildcard record would lead
    connection.request("GET", f"{url.path}?{url.query}", headers={"Host": url.netloc})
    assert url.netloc.startswith(bucket_of(settings) + ".localhost:")
    assert connection.getresponse().read() == b"object"


@pytest.mark.parametrize(
    ("environ", "start"),
    [
        ({}, "https://bucket.s3.us-east-1.amazonaws.com/a?"),
        ({"FARM_S3_REGION": "eu-west-3"}, "https://bucket.s3.eu-west-3.amazonaws.com/a?"),
        ({"FARM_S3_PATH_STYLE": "true"}, "https://s3.us-east-1.amazonaws.com/bucket/a?"),
        ({"FARM_S3_ENDPOINT": "http://minio:9000/"}, "http://minio:9000/bucket/a?"),
        (
            {"FARM_S3_ENDPOINT": "http://minio:9000", "FARM_S3_PATH_STYLE": "0"},
            "http://bucket.minio:9000/a?",
        ),
    ],
)
def test_urls_name_the_bucket_as_the_service_expects(environ, start):
    assert (
        opened(Settings.load({"FARM_STORE_URL": "s3://bucket", **CREDENTIALS, **environ}))
        .url("a")
        .startswith(start)
    )
