"""The playlist of a job: what it lists, when it is written, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from farm.client import Job
from farm.engine.advance import claim_due_step
from tests.support.steps import run_step
from farm.engine.context import Context
from farm.engine.playlist import publish
from farm.route import Step
from farm.errors import DownloadFailed, FarmUnreachable, UploadFailed
from farm.job import JobRequest
from farm.registry import open_registry
from farm.settings import Settings
from farm.store import keys
from farm.store.memory import MemoryStore

END = "#EXT-X-ENDLIST"
GIVEN: dict[str, Any] = {
    "prompt": "a woman talks",
    "cond_video": "https://example.org/face.png",
    "cond_audio": {"person1": "https://example.org/voice.wav"},
    "frame_num": 81,
}


class Eventful(MemoryStore):
    """A store to which things happen, one each time it is about to be written to."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Callable[[], Any]] = []

    def put(self, key: str, source: Path | bytes) -> None:
        if self.events:
            self.events.pop(0)()
        super().put(key, source)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    ctx = Context(Settings(home=tmp_path), Eventful(), open_registry("memory://"))
    ctx.registry.jobs.add("a", JobRequest.parse(GIVEN))
    commit(ctx, Step("embed"), chunks=3)
    return ctx


def commit(ctx: Context, step: Step, **output: Any) -> None:
    lease = ctx.registry.steps.acquire("a", step.id, lease_s=60, max_attempts=9)
    assert lease
    assert ctx.registry.steps.commit(lease, {"timings": {}, **output})


def chunk(ctx: Context, number: int, *, init: str = "init.mp4", frames: int = 81) -> None:
    """Makes a chunk's product as a worker would."""
    links = {"init": init, "segment": f"{number}.m4s"}
    commit(ctx, Step("generate", number), links=links, frames=frames)


def stored(ctx: Context, number: int) -> None:
    """Makes a chunk's product with what it names."""
    names = {"init": "jobs/a/generate-0000/0001/init.mp4", "segment": f"jobs/a/generate-{number:04d}/0001/segment.m4s"}
    for key in names.values():
        ctx.store.put(key, key.encode())
    commit(ctx, Step("generate", number), links={"init": "signed:1", "segment": "signed:2"}, frames=81, **names)


def lines(ctx: Context) -> list[str]:
    return ctx.store.get(keys.playlist("a")).decode().splitlines()


def listed(ctx: Context) -> list[str]:
    return [line for line in lines(ctx) if not line.startswith("#")]


def fails(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_before_the_first_chunk_there_is_nothing_to_watch(ctx):
    publish(ctx, "a", 3)
    assert ctx.store.size(keys.playlist("a")) is None
    assert Job(ctx, "a").playlist() is None


def test_the_first_chunk_opens_it_as_one_that_grows_from_its_beginning(ctx):
    chunk(ctx, 0)
    run_step(ctx, "a", Step("generate", 0))
    assert lines(ctx) == [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-TARGETDURATION:4",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:EVENT",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-START:TIME-OFFSET=0",
        '#EXT-X-MAP:URI="init.mp4"',
        "#EXTINF:3.240,",
        "0.m4s",
    ]
    assert Job(ctx, "a").playlist() == ctx.store.url(keys.playlist("a"))


def test_a_job_whose_playlist_grows_is_still_live(ctx):
    chunk(ctx, 0)
    publish(ctx, "a", 3)
    assert ctx.registry.jobs.live() == ["a"]


def test_each_chunk_appends_and_changes_no_line(ctx):
    chunk(ctx, 0)
    publish(ctx, "a", 3)
    before = lines(ctx)
    chunk(ctx, 1, frames=72)
    publish(ctx, "a", 3)
    assert lines(ctx) == [*before, "#EXTINF:2.880,", "1.m4s"]


def test_the_last_chunk_closes_it_before_the_video_is_joined(ctx):
    for number in range(3):
        chunk(ctx, number)
    run_step(ctx, "a", Step("generate", 2))
    assert (listed(ctx), lines(ctx)[-1]) == (["0.m4s", "1.m4s", "2.m4s"], END)


def test_another_encoders_chunk_tells_players_anew(ctx):
    for number, init in enumerate(["init.mp4", "other.mp4", "other.mp4"]):
        chunk(ctx, number, init=init)
    publish(ctx, "a", 3)
    told = [line for line in lines(ctx) if "MAP" in line or line.endswith("m4s")]
    assert told == ['#EXT-X-MAP:URI="init.mp4"', "0.m4s", '#EXT-X-MAP:URI="other.mp4"', "1.m4s", "2.m4s"]


def test_a_chunk_that_is_not_current_is_not_listed(ctx):
    # Given a chunk whose worker died, and one that is being made
    chunk(ctx, 0)
    ctx.registry.steps.acquire("a", "generate-0001", lease_s=60, max_attempts=9)
    publish(ctx, "a", 3)
    assert listed(ctx) == ["0.m4s"]


def test_what_comes_after_a_gap_waits_for_it(ctx):
    chunk(ctx, 0)
    chunk(ctx, 2)
    publish(ctx, "a", 3)
    assert listed(ctx) == ["0.m4s"]


def test_a_job_that_fails_closes_it(ctx):
    chunk(ctx, 0)
    run_step(ctx, "a", Step("generate", 0))
    # When the next chunk loses worker after worker
    lost = ctx.settings.max_attempts
    for _ in range(lost):
        ctx.registry.steps.acquire("a", "generate-0001", lease_s=0, max_attempts=9)
    with pytest.raises(Exception, match=f"{lost} workers died"):
        run_step(ctx, "a", Step("generate", 1))
    assert (listed(ctx), lines(ctx)[-1]) == (["0.m4s"], END)


def test_a_job_that_fails_of_its_step_closes_it(ctx):
    # Given a chunk that cannot be made, because what the download made lacks everything
    chunk(ctx, 0)
    ctx = Context(ctx.settings.model_copy(update={"max_attempts": 1}), ctx.store, ctx.registry)
    with pytest.raises(Exception, match="generate-0001"):
        run_step(ctx, "a", Step("generate", 1))
    assert lines(ctx)[-1] == END


def test_a_job_that_is_cancelled_closes_it(ctx):
    chunk(ctx, 0)
    run_step(ctx, "a", Step("generate", 0))
    assert END not in lines(ctx)
    Job(ctx, "a").cancel()
    assert (listed(ctx), lines(ctx)[-1]) == (["0.m4s"], END)


def test_one_that_could_not_be_closed_is_closed_by_whoever_looks(ctx):
    def refuse() -> None:
        raise UploadFailed("the store could not take it: disk full")

    chunk(ctx, 0)
    run_step(ctx, "a", Step("generate", 0))
    ctx.store.events = [refuse]
    Job(ctx, "a").cancel()
    assert END not in lines(ctx)
    claim_due_step(ctx, "a")
    assert lines(ctx)[-1] == END
    assert ctx.registry.jobs.live() == []


def test_a_job_that_ends_with_a_video_closes_it(ctx):
    # Given a worker that died after the last chunk, before it wrote the playlist
    for number in range(3):
        chunk(ctx, number)
    commit(ctx, Step("mux"), result={"job_id": "a", "status": "success"})
    run_step(ctx, "a", Step("mux"))
    assert (listed(ctx), lines(ctx)[-1]) == (["0.m4s", "1.m4s", "2.m4s"], END)


def test_who_closes_it_leaves_nothing_to_the_reaper(ctx):
    chunk(ctx, 0)
    Job(ctx, "a").cancel()
    assert ctx.registry.jobs.live() == []


def test_what_the_canceller_left_open_is_closed_by_whoever_looks(ctx):
    # Given a canceller that died before it wrote the playlist
    chunk(ctx, 0)
    publish(ctx, "a", 3)
    ctx.registry.jobs.cancel("a", by="somebody")
    assert ctx.registry.jobs.live() == ["a"]
    claim_due_step(ctx, "a")
    assert (lines(ctx)[-1], ctx.registry.jobs.live()) == (END, [])


def test_a_cancel_that_comes_while_it_is_written_closes_it_all_the_same(ctx):
    chunk(ctx, 0)
    ctx.store.events = [lambda: Job(ctx, "a").cancel()]
    publish(ctx, "a", 3)
    assert lines(ctx)[-1] == END


def test_who_writes_late_takes_no_chunk_away(ctx):
    # Given a worker that stalls as it writes, until another has made and listed the next chunk
    chunk(ctx, 0)

    def meanwhile() -> None:
        chunk(ctx, 1)
        publish(ctx, "a", 3)

    ctx.store.events = [meanwhile]
    publish(ctx, "a", 3)
    assert listed(ctx) == ["0.m4s", "1.m4s"]


@pytest.mark.parametrize("error", [UploadFailed("the disk is full"), FarmUnreachable("no store")])
def test_a_store_that_does_not_take_it_stops_no_job(ctx, error):
    chunk(ctx, 0)
    ctx.store.events = [fails(error)]
    assert run_step(ctx, "a", Step("generate", 0)) == Step("generate", 1)
    # and the next chunk lists both
    chunk(ctx, 1)
    run_step(ctx, "a", Step("generate", 1))
    assert listed(ctx) == ["0.m4s", "1.m4s"]


def test_a_failure_before_any_chunk_leaves_none(ctx):
    ctx.registry.jobs.fail("a", DownloadFailed("404", retryable=False), at_stage="downloads_started")
    publish(ctx, "a", 3)
    assert ctx.store.size(keys.playlist("a")) is None


def looks(broker: str, ctx: Context, *, chunks: int) -> int:
    """How many requests a broker gets when the playlist of a job of so many chunks is written, all of them made."""
    with redis.Redis.from_url(broker) as client:
        client.flushall()
        ctx.registry.jobs.add("a", JobRequest.parse(GIVEN))
        commit(ctx, Step("embed"), chunks=chunks)
        for number in range(chunks):
            chunk(ctx, number)
        before = client.info("stats")["total_reads_processed"]
        publish(ctx, "a", chunks)
        assert len(listed(ctx)) == chunks
        return int(client.info("stats")["total_reads_processed"] - before)


def test_a_long_videos_asks_no_more_of_the_registry_than_a_short_ones(tmp_path, broker):
    ctx = Context(Settings(home=tmp_path), MemoryStore(), open_registry(broker))
    few = looks(broker, ctx, chunks=3)
    assert looks(broker, ctx, chunks=30) <= few


def test_a_mirror_needs_nothing_but_its_folder_whatever_the_stores_links_are(ctx, tmp_path):
    stored(ctx, 0)
    mirrored = Job(ctx, "a").mirror(tmp_path / "m")
    names = [line for line in mirrored.read_text().splitlines() if not line.startswith("#")]
    assert names == ["jobs/a/generate-0000/0001/segment.m4s"]
    assert '#EXT-X-MAP:URI="jobs/a/generate-0000/0001/init.mp4"' in mirrored.read_text()
    for name in (*names, "jobs/a/generate-0000/0001/init.mp4"):
        assert (mirrored.parent / name).read_text() == name


def test_a_mirror_grows_and_fetches_only_what_is_new(ctx, tmp_path):
    stored(ctx, 0)
    first = Job(ctx, "a").mirror(tmp_path / "m")
    ctx.store.delete("jobs/a/generate-0000/0001/segment.m4s")
    for number in (1, 2):
        stored(ctx, number)
    grown = Job(ctx, "a").mirror(tmp_path / "m")
    assert grown == first
    assert (grown.read_text().count("segment.m4s"), grown.read_text().splitlines()[-1]) == (3, END)


def test_there_is_no_mirror_of_nothing_or_of_what_was_cleared_away(ctx, tmp_path):
    assert Job(ctx, "a").mirror(tmp_path / "m") is None
    stored(ctx, 0)
    ctx.store.delete("jobs/a/generate-0000/0001/segment.m4s")
    assert Job(ctx, "a").mirror(tmp_path / "m") is None
    ctx.registry.jobs.add("b", JobRequest.parse(GIVEN))
    assert Job(ctx, "b").mirror(tmp_path / "m") is None, "nobody knows yet how many chunks it has"
