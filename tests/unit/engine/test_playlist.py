"""The playlist of a job: which segments it lists, when it is written, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.client import Job
from farm.engine.advance import claim_due_step
from farm.engine.context import Context
from farm.engine.playlist import publish
from farm.errors import (
    CorruptObject,
    DownloadFailed,
    FarmUnreachable,
    GenerationFailed,
    UploadFailed,
    WorkerLost,
)
from farm.registry import Registry, open_registry
from farm.registry.memory import MemoryBackend
from farm.route import Step
from farm.settings import Settings
from farm.store import keys
from farm.store.memory import MemoryStore
from tests.support.attempts import FIRST
from tests.support.backends import CountingBackend, HookedStore
from tests.support.jobs import job_request
from tests.support.outputs import chunk_output, embed_output
from tests.support.steps import acquire, complete, run_step

END = "#EXT-X-ENDLIST"
INIT = f"jobs/a/generate-0000/{FIRST}/init.mp4"
SEGMENT = f"jobs/a/generate-0000/{FIRST}/segment.m4s"
REQUEST = job_request(frame_num=81)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """The context of the job `a`, whose speech makes three chunks."""
    ctx = Context(Settings(home=tmp_path), HookedStore(), open_registry("memory://"))
    ctx.registry.entries.add("a", REQUEST)
    complete(ctx.registry, "embed", embed_output(chunks=3))
    return ctx


def generate(ctx: Context, chunk: int, **changes: Any) -> None:
    """Completes a chunk as another worker would, before it has written the playlist."""
    output = chunk_output(link=f"{chunk}.m4s", **changes)
    complete(ctx.registry, Step("generate", chunk).id, output)


def generate_stored(ctx: Context, chunk: int) -> None:
    """Completes a chunk whose objects are in the store, and whose links are signed."""
    segment_key = f"jobs/a/generate-{chunk:04d}/{FIRST}/segment.m4s"
    for key in (INIT, segment_key):
        ctx.store.put(key, key.encode())
    output = chunk_output(
        init_key=INIT, segment_key=segment_key, init_link="signed:1", link="signed:2"
    )
    digests = {key: keys.digest(key.encode()) for key in (INIT, segment_key)}
    complete(ctx.registry, Step("generate", chunk).id, output, digests=digests)


def lines(ctx: Context) -> list[str]:
    return ctx.store.get(keys.playlist("a")).decode().splitlines()


def segments(ctx: Context) -> list[str]:
    return [line for line in lines(ctx) if not line.startswith("#")]


def fail_with(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


# Growing


def test_there_is_no_playlist_before_the_first_chunk(ctx):
    publish(ctx, "a", 3)
    assert ctx.store.size(keys.playlist("a")) is None
    assert Job(ctx, "a").playlist() is None


def test_the_first_chunk_opens_a_growing_playlist_that_plays_from_its_beginning(ctx):
    generate(ctx, 0)
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


def test_a_job_with_a_growing_playlist_is_live(ctx):
    generate(ctx, 0)
    publish(ctx, "a", 3)
    assert ctx.registry.jobs.live() == ["a"]


def test_each_chunk_appends_to_the_playlist_and_changes_no_line(ctx):
    generate(ctx, 0)
    publish(ctx, "a", 3)
    before = lines(ctx)
    generate(ctx, 1, frames=72)
    publish(ctx, "a", 3)
    assert lines(ctx) == [*before, "#EXTINF:2.880,", "1.m4s"]


def test_a_chunk_of_another_encoder_names_its_own_initialisation_section(ctx):
    for chunk, init_link in enumerate(["init.mp4", "other.mp4", "other.mp4"]):
        generate(ctx, chunk, init_link=init_link)
    publish(ctx, "a", 3)
    shown = [line for line in lines(ctx) if "MAP" in line or line.endswith("m4s")]
    first = ['#EXT-X-MAP:URI="init.mp4"', "0.m4s"]
    others = ['#EXT-X-MAP:URI="other.mp4"', "1.m4s", "2.m4s"]
    assert shown == [*first, *others]


def test_a_chunk_that_is_not_committed_is_not_listed(ctx):
    generate(ctx, 0)
    acquire(ctx.registry, "generate-0001")
    publish(ctx, "a", 3)
    assert segments(ctx) == ["0.m4s"]


def test_a_chunk_behind_a_missing_one_is_not_listed(ctx):
    generate(ctx, 0)
    generate(ctx, 2)
    publish(ctx, "a", 3)
    assert segments(ctx) == ["0.m4s"]


# Its end


def test_the_last_chunk_ends_the_playlist_before_the_video_is_joined(ctx):
    for chunk in range(3):
        generate(ctx, chunk)
    run_step(ctx, "a", Step("generate", 2))
    assert (segments(ctx), lines(ctx)[-1]) == (["0.m4s", "1.m4s", "2.m4s"], END)


def test_a_job_that_lost_every_worker_ends_its_playlist(ctx):
    generate(ctx, 0)
    run_step(ctx, "a", Step("generate", 0))
    for _ in range(ctx.settings.max_attempts):
        acquire(ctx.registry, "generate-0001", lease_s=0)
    with pytest.raises(
        WorkerLost,
        match="generate-0001: none of 3 attempts committed, and the last one lost its worker",
    ):
        run_step(ctx, "a", Step("generate", 1))
    assert (segments(ctx), lines(ctx)[-1]) == (["0.m4s"], END)


def test_a_job_whose_step_fails_ends_its_playlist(ctx):
    generate(ctx, 0)
    settings = ctx.settings.model_copy(update={"max_attempts": 1})
    one_attempt = Context(settings, ctx.store, ctx.registry)
    with pytest.raises(GenerationFailed, match="generate-0001"):
        run_step(one_attempt, "a", Step("generate", 1), step_function=lambda _: lambda _: 1 / 0)
    assert lines(ctx)[-1] == END


def test_a_cancelled_job_ends_its_playlist(ctx):
    generate(ctx, 0)
    run_step(ctx, "a", Step("generate", 0))
    assert END not in lines(ctx)
    Job(ctx, "a").cancel()
    assert (segments(ctx), lines(ctx)[-1]) == (["0.m4s"], END)


def test_a_canceller_leaves_nothing_to_the_reaper(ctx):
    generate(ctx, 0)
    Job(ctx, "a").cancel()
    assert ctx.registry.jobs.live() == []


def test_a_playlist_that_could_not_be_ended_is_ended_by_the_reaper(ctx):
    generate(ctx, 0)
    run_step(ctx, "a", Step("generate", 0))
    ctx.store.before_put = [fail_with(UploadFailed("the store could not take it: disk full"))]
    Job(ctx, "a").cancel()
    assert END not in lines(ctx)
    claim_due_step(ctx, "a")
    assert lines(ctx)[-1] == END
    assert ctx.registry.jobs.live() == []


def test_the_playlist_of_a_canceller_that_died_is_ended_by_the_reaper(ctx):
    generate(ctx, 0)
    publish(ctx, "a", 3)
    ctx.registry.jobs.cancel("a", by="a process that dies before it writes the playlist")
    assert ctx.registry.jobs.live() == ["a"]
    claim_due_step(ctx, "a")
    assert (lines(ctx)[-1], ctx.registry.jobs.live()) == (END, [])


def test_a_job_that_ends_with_a_video_ends_its_playlist(ctx):
    # Given workers that died, after the last chunk before it wrote the playlist, and after the mux
    for chunk in range(3):
        generate(ctx, chunk)
    complete(ctx.registry, "mux")
    claim_due_step(ctx, "a")
    assert (segments(ctx), lines(ctx)[-1]) == (["0.m4s", "1.m4s", "2.m4s"], END)


def test_a_cancellation_while_the_playlist_is_written_ends_it_all_the_same(ctx):
    generate(ctx, 0)
    ctx.store.before_put = [lambda: Job(ctx, "a").cancel()]
    publish(ctx, "a", 3)
    assert lines(ctx)[-1] == END


def test_a_job_that_fails_before_its_first_chunk_has_no_playlist(ctx):
    error = DownloadFailed("404", retryable=False)
    ctx.registry.jobs.fail("a", error, at_stage="downloads_started")
    publish(ctx, "a", 3)
    assert ctx.store.size(keys.playlist("a")) is None


# Concurrent writers, and stores that refuse


def test_a_late_writer_removes_no_chunk(ctx):
    # Given a worker that stalls as it writes, until another has completed and listed the next chunk
    def meanwhile() -> None:
        generate(ctx, 1)
        publish(ctx, "a", 3)

    generate(ctx, 0)
    ctx.store.before_put = [meanwhile]
    publish(ctx, "a", 3)
    assert segments(ctx) == ["0.m4s", "1.m4s"]


@pytest.mark.parametrize("error", [UploadFailed("disk full"), FarmUnreachable("no store")])
def test_a_job_goes_on_if_its_playlist_cannot_be_written(ctx, error):
    generate(ctx, 0)
    ctx.store.before_put = [fail_with(error)]
    assert run_step(ctx, "a", Step("generate", 0)) == Step("generate", 1)
    # Then the next chunk lists both
    generate(ctx, 1)
    run_step(ctx, "a", Step("generate", 1))
    assert segments(ctx) == ["0.m4s", "1.m4s"]


# Requests


def requests_to_publish(tmp_path: Path, *, chunks: int) -> int:
    """Requests to the registry for the playlist of a job with that many chunks, all complete."""
    backend = CountingBackend(MemoryBackend())
    ctx = Context(Settings(home=tmp_path), MemoryStore(), Registry(backend))
    ctx.registry.entries.add("a", REQUEST)
    complete(ctx.registry, "embed", embed_output(chunks=chunks))
    for chunk in range(chunks):
        generate(ctx, chunk)
    before = backend.requests
    publish(ctx, "a", chunks)
    assert len(segments(ctx)) == chunks
    return backend.requests - before


def test_a_long_playlist_takes_no_more_requests_than_a_short_one(tmp_path):
    assert requests_to_publish(tmp_path, chunks=30) <= requests_to_publish(tmp_path, chunks=3)


# Mirrors


def test_a_mirror_needs_its_folder_alone_whatever_the_links_of_the_store(ctx, tmp_path):
    generate_stored(ctx, 0)
    mirrored = Job(ctx, "a").mirror(tmp_path / "m")
    text = mirrored.read_text()
    names = [line for line in text.splitlines() if not line.startswith("#")]
    assert names == [SEGMENT]
    assert f'#EXT-X-MAP:URI="{INIT}"' in text
    for name in (*names, INIT):
        assert (mirrored.parent / name).read_text() == name


def test_a_mirror_grows_and_fetches_new_segments_only(ctx, tmp_path):
    generate_stored(ctx, 0)
    first = Job(ctx, "a").mirror(tmp_path / "m")
    ctx.store.delete(SEGMENT)
    for chunk in (1, 2):
        generate_stored(ctx, chunk)
    grown = Job(ctx, "a").mirror(tmp_path / "m")
    assert grown == first
    text = grown.read_text()
    assert (text.count("segment.m4s"), text.splitlines()[-1]) == (3, END)


def test_there_is_no_mirror_before_the_first_chunk(ctx, tmp_path):
    assert Job(ctx, "a").mirror(tmp_path / "m") is None


def test_there_is_no_mirror_of_segments_that_were_removed(ctx, tmp_path):
    generate_stored(ctx, 0)
    ctx.store.delete(SEGMENT)
    assert Job(ctx, "a").mirror(tmp_path / "m") is None


def test_a_damaged_segment_is_not_mirrored(ctx, tmp_path):
    generate_stored(ctx, 0)
    ctx.store.put(SEGMENT, b"damaged")
    with pytest.raises(CorruptObject, match=f"{SEGMENT} is corrupt"):
        Job(ctx, "a").mirror(tmp_path / "m")
    assert not (tmp_path / "m" / SEGMENT).exists()


def test_there_is_no_mirror_of_a_job_of_unknown_length(ctx, tmp_path):
    ctx.registry.entries.add("b", REQUEST)
    assert Job(ctx, "b").mirror(tmp_path / "m") is None


def test_there_is_no_mirror_of_a_job_that_was_forgotten(ctx, tmp_path):
    generate_stored(ctx, 0)
    ctx.registry.entries.forget("a", ["generate-0000", "embed"])
    assert Job(ctx, "a").mirror(tmp_path / "m") is None
