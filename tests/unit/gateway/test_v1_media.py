"""Videos, playlists and segments by HTTP."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest

from farm.client import Farm
from farm.gateway.v1 import media
from farm.gateway.v1.signed import LINK_S, Signer
from farm.job import Result
from farm.registry.outputs import EmbedOutput, MuxOutput
from farm.store import keys
from tests.support.gateway import Answer, Client
from tests.support.jobs import FIELDS
from tests.support.outputs import chunk_output, mux_output, output_of
from tests.support.steps import acquire, commit
from tests.unit.gateway.conftest import Key

VIDEO = bytes(range(256)) * 4
SHA256 = sha256(VIDEO).hexdigest()


def chunk(farm: Farm, job_id: str, number: int, init: str | None = None) -> str:
    """Commits a chunk whose segment says which one it is; the key of its initialisation."""
    step_id = f"generate-{number:04d}"
    lease = acquire(farm.context.registry, step_id, job_id=job_id)
    segment = keys.attempt(job_id, step_id, lease.attempt_id, "segment.m4s")
    contents = {segment: f"segment {number}".encode()}
    if init is None:
        init = keys.attempt(job_id, step_id, lease.attempt_id, "init.mp4")
        contents[init] = f"init {number}".encode()
    for key, content in contents.items():
        farm.context.store.put(key, content)
    digests = {key: keys.digest(content) for key, content in contents.items()}
    output = chunk_output(init_key=init, segment_key=segment, frames=50)
    assert commit(farm.context.registry, lease, output, digests=digests)
    return init


@pytest.fixture
def job_id(client: Client, farm: Farm) -> str:
    """A job with three chunks to make."""
    job_id = client.submit_v1(FIELDS)
    output = output_of("embed")
    assert isinstance(output, EmbedOutput)
    lease = acquire(farm.context.registry, "embed", job_id=job_id)
    embedded = output.model_copy(update={"chunks": 3})
    assert commit(farm.context.registry, lease, embedded)
    return job_id


@pytest.fixture
def finished(job_id: str, farm: Farm) -> str:
    """A job with a video."""
    lease = acquire(farm.context.registry, "mux", job_id=job_id)
    key = keys.attempt(job_id, "mux", lease.attempt_id, "video.mp4")
    farm.context.store.put(key, VIDEO)
    output = mux_output(job_id, video_key=key)
    assert isinstance(output, MuxOutput)
    assert commit(farm.context.registry, lease, output, digests={key: SHA256})
    result = Result(job_id=job_id, status="success")
    farm.context.registry.jobs.end(job_id, "success", result)
    return job_id


def get(client: Client, job_id: str, path: str = "content", **headers: str) -> Answer:
    return client.send("GET", f"/v1/jobs/{job_id}/{path}", **headers)


# The video


def test_a_video_is_sent_whole_with_its_digest(
    client: Client, finished: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(media, "BLOCK_BYTES", 100)

    answer = get(client, finished)

    assert (answer.status, answer.content) == (200, VIDEO)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Content-Length"] == str(len(VIDEO))
    assert answer.headers["ETag"] == f'"{SHA256}"'
    digest = b64encode(sha256(VIDEO).digest()).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_the_headers_of_a_video_are_answered_without_reading_it(
    client: Client, farm: Farm, finished: str, monkeypatch: pytest.MonkeyPatch
):
    whole = get(client, finished).headers
    monkeypatch.setattr(farm.context.store, "get_range", None)

    answer = client.send("HEAD", f"/v1/jobs/{finished}/content", Range="bytes=0-9")

    assert answer.status == 200, "a range is one of GET"
    assert [answer.headers[name] for name in ("Content-Length", "ETag")] == ["1024", whole["ETag"]]


@pytest.mark.parametrize(
    ("wanted", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 1024),
        ("bytes=100-299", 100, 300),
        ("bytes=1000-5000", 1000, 1024),
        ("bytes=-24", 1000, 1024),
        ("bytes=-5000", 0, 1024),
    ],
)
def test_a_range_is_sent(client: Client, finished: str, wanted: str, first: int, stop: int):
    answer = get(client, finished, Range=wanted)

    assert (answer.status, answer.content) == (206, VIDEO[first:stop])
    assert answer.headers["Content-Range"] == f"bytes {first}-{stop - 1}/1024"


@pytest.mark.parametrize("wanted", ["bytes=1024-", "bytes=-0", "bytes=-", "bytes=7-3"])
def test_a_range_beyond_the_video_is_refused(client: Client, finished: str, wanted: str):
    answer = get(client, finished, Range=wanted)

    assert (answer.status, answer.field) == (416, "Range")
    assert answer.headers["Content-Range"] == "bytes */1024"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,4-5"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=0-1", "If-Range": '"another"'},
    ],
)
def test_a_range_that_is_ignored_sends_all(client: Client, finished: str, headers: dict[str, str]):
    answer = get(client, finished, **headers)

    assert (answer.status, answer.content) == (200, VIDEO)


def test_a_download_goes_on_only_if_the_video_is_the_same(client: Client, finished: str):
    answer = get(client, finished, **{"Range": "bytes=1000-", "If-Range": f'"{SHA256}"'})

    assert (answer.status, answer.content) == (206, VIDEO[1000:])


@pytest.mark.parametrize("known", [f'"{SHA256}"', f'W/"{SHA256}", "b"', "*"])
def test_a_video_that_the_client_has_is_not_sent_again(client: Client, finished: str, known: str):
    answer = get(client, finished, **{"If-None-Match": known})

    assert (answer.status, answer.content) == (304, b"")
    assert answer.headers["ETag"] == f'"{SHA256}"'


def test_head_says_how_long_a_video_is(client: Client, finished: str):
    answer = client.send("HEAD", f"/v1/jobs/{finished}/content")

    assert (answer.status, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == "1024"


def test_a_job_that_is_under_way_has_no_video_yet(client: Client, job_id: str):
    answer = get(client, job_id)

    assert (answer.status, answer.headers["Retry-After"]) == (409, "2")
    assert answer.message == "content: the job is queued; allowed: one that is success"


def test_a_job_that_was_cancelled_never_has_one(client: Client, job_id: str):
    client.send("POST", f"/v1/jobs/{job_id}/cancel", b"")

    answer = get(client, job_id)

    assert (answer.status, "Retry-After" in answer.headers) == (409, False)


def test_a_video_that_is_not_kept_any_more_is_404(client: Client, farm: Farm, finished: str):
    for key in list(farm.context.store.keys(keys.job(finished))):
        farm.context.store.delete(key)

    assert get(client, finished).status == 404


# The playlist


def test_a_playlist_grows_and_names_paths_of_this_server(client: Client, farm: Farm, job_id: str):
    before = get(client, job_id, "playlist.m3u8")
    init = chunk(farm, job_id, 0)
    first = get(client, job_id, "playlist.m3u8")
    chunk(farm, job_id, 1, init)
    chunk(farm, job_id, 2)
    last = get(client, job_id, "playlist.m3u8")

    assert (before.status, before.headers["Retry-After"]) == (409, "2")
    assert first.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert "#EXT-X-ENDLIST" not in first.body
    assert last.body.startswith(first.body)
    assert last.body[len(first.body) :].splitlines() == [
        "#EXTINF:2.000,",
        "segments/1/segment.m4s",
        '#EXT-X-MAP:URI="segments/2/init.mp4"',
        "#EXTINF:2.000,",
        "segments/2/segment.m4s",
        "#EXT-X-ENDLIST",
    ]


def test_the_files_of_a_playlist_are_sent_with_ranges(client: Client, farm: Farm, job_id: str):
    init = chunk(farm, job_id, 0)
    chunk(farm, job_id, 1, init)

    segment = get(client, job_id, "segments/1/segment.m4s", Range="bytes=0-6")

    assert (segment.status, segment.content) == (206, b"segment")
    assert get(client, job_id, "segments/1/segment.m4s").content == b"segment 1"
    assert get(client, job_id, "segments/1/init.mp4").content == b"init 0"


@pytest.mark.parametrize(
    "path", ["1/segment.m4s", "0/tail.safetensors", "00/init.mp4", "a/init.mp4", "-1/init.mp4"]
)
def test_nothing_else_of_a_job_is_sent(client: Client, farm: Farm, job_id: str, path: str):
    chunk(farm, job_id, 0)

    answer = get(client, job_id, f"segments/{path}")

    assert (answer.status, answer.field) == (404, "segment")


@pytest.mark.parametrize("path", ["content", "playlist.m3u8", "segments/0/segment.m4s"])
def test_another_tenant_sees_nothing_of_it(
    client: Client, farm: Farm, key: Key, finished: str, path: str
):
    chunk(farm, finished, 0)
    bert = key("bert")

    foreign, unknown = (get(bert, each, path) for each in (finished, "0" * 32))

    assert (foreign.status, unknown.status) == (404, 404)
    assert foreign.message.replace(finished, "0" * 32) == unknown.message


# Links that need no key


def links(client: Client, job_id: str) -> dict[str, str]:
    return dict(client.send("GET", f"/v1/jobs/{job_id}").body["links"])


def test_a_signed_link_needs_no_key_and_is_for_pages_of_any_origin(
    client: Client, farm: Farm, key: Key, finished: str
):
    chunk(farm, finished, 0)
    signed = links(client, finished)
    key("anna")
    elsewhere = {"Origin": "https://example.org", "Sec-Fetch-Site": "cross-site"}

    video = client.send("GET", signed["content"], **elsewhere)
    playlist = client.send("GET", signed["playlist"], **elsewhere)
    *_, segment, _ = playlist.body.splitlines()

    assert (video.status, video.content) == (200, VIDEO)
    assert video.headers["Access-Control-Allow-Origin"] == "*"
    assert client.send("GET", f"/v1/jobs/{finished}/{segment}").content == b"segment 0"
    assert client.send("GET", signed["events"]).status == 200
    assert client.send("GET", f"/v1/jobs/{finished}").status == 401
    assert "Access-Control-Allow-Origin" not in get(client, finished).headers


def test_a_signed_link_is_for_one_job_and_one_day(client: Client, farm: Farm, finished: str):
    signed = links(client, finished)["content"]
    path, _, query = signed.partition("?")
    until, _, signature = query.partition("&")
    later = until[:-1] + str((int(until[-1]) + 1) % 10)
    registry = farm.context.registry
    ended = Signer(registry.keys.link_key(), registry.now() - LINK_S - 1).query(finished)
    other = Signer(b"another secret", registry.now()).query(finished)
    wrong = [
        signed.replace(finished, client.submit_v1(FIELDS)),
        f"{path}?{later}&{signature}",
        f"{path}?{until}&signature=",
        f"{path}?{until}&signature=%C3%A4",
        f"{path}?{signature}",
        path + ended,
        path + other,
        f"/v1/jobs/{'0' * 32}/content?{query}",
    ]

    answers = [client.send("GET", each) for each in wrong]

    assert {(answer.status, answer.field) for answer in answers} == {(401, "signature")}


def test_a_signed_link_changes_nothing(client: Client, key: Key, finished: str):
    query = links(client, finished)["content"].partition("?")[2]
    key("anna")

    for method, call in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")):
        assert client.send(method, f"/v1/jobs/{finished}{call}?{query}").status == 401
