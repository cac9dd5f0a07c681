"""Jobs whose records another version of the farm has written: they end by name."""

from __future__ import annotations

import json

import pytest

from farm.engine import journal
from farm.errors import VersionSkew
from farm.maintenance.gc import find_garbage
from farm.presets import MINIATURE
from farm.registry.formats import dump
from farm.registry.keys import job_key, request_key, step_key
from farm.route import DOWNLOAD, NOTIFY
from farm.store import integrity, keys
from tests.support.formats import text_of

HOOK = {"webhook": "https://example.org/done"}


def rewrite(harness, key, *, format=1, **fields):
    """Writes the record of the job as another version would."""
    record = json.loads(harness.clock.texts.get(key, text_of({})))["record"]
    harness.clock.texts[key] = text_of({**record, **fields}, format=format)
    harness.registry.__init__(harness.clock)  # nothing is cached


RECORDS = [
    (request_key("a"), {"newer": "field"}),
    (request_key("a"), {"format": 2}),
    (job_key("a"), {"newer": "field"}),
    (job_key("a"), {"format": 2}),
    (job_key("a"), {"format": 0}),
    (step_key("a", "download"), {"format": 2}),
    (step_key("a", "embed"), {"newer": "field"}),
]


@pytest.mark.parametrize(("key", "changes"), RECORDS, ids=str)
def test_a_job_with_a_record_of_another_version_ends_once_and_for_all(harness, key, changes):
    harness.enter()
    rewrite(harness, key, **changes)
    with pytest.raises(VersionSkew, match="job a: "):
        harness.run(DOWNLOAD)
    assert (harness.failure.code, harness.status.state) == ("E_VERSION_SKEW", "error")
    assert harness.failure.message.startswith("job a: ")
    assert harness.registry.jobs.live() == []
    assert journal.read_end(harness.store, "a") == harness.status


@pytest.mark.parametrize(
    ("key", "pending"),
    [(job_key("a"), ["a"]), (request_key("a"), []), (step_key("a", "embed"), [])],
)
def test_its_webhook_is_called_if_all_that_this_takes_is_readable(harness, key, pending):
    harness.enter(**HOOK)
    rewrite(harness, key, format=2)
    with pytest.raises(VersionSkew):
        harness.run(DOWNLOAD)
    assert harness.registry.jobs.live() == pending


def test_the_events_of_such_a_job_end(harness):
    harness.enter()
    rewrite(harness, request_key("a"), newer="field")
    with pytest.raises(VersionSkew):
        harness.run(DOWNLOAD)
    *_, last = harness.registry.jobs.events("a")
    assert (last.stage, last.details["code"]) == ("error", "E_VERSION_SKEW")


def test_a_field_that_has_its_default_is_not_stored(harness):
    harness.enter()
    assert "newer" not in harness.clock.texts[request_key("a")]
    assert set(json.loads(dump(harness.registry.jobs.request("a")))["record"]) == {
        "prompt",
        "cond_video",
        "cond_audio",
        "model",
        "mode",
        "max_frame_num",
        *vars(MINIATURE.defaults),  # the model's, which another version may have otherwise
    }


def test_a_video_that_another_version_has_made_stays_and_its_end_is_stored_as_it_is(harness):
    harness.enter()
    rewrite(harness, job_key("a"), format=2, state="success", stage="completed")
    written = harness.clock.texts[job_key("a")]
    with pytest.raises(VersionSkew):
        harness.run(DOWNLOAD)
    assert harness.clock.texts[job_key("a")] == written
    assert integrity.get_sealed(harness.store, keys.end("a")).decode() == written
    assert harness.registry.jobs.live() == []


def test_the_webhook_of_an_unreadable_job_is_not_called(harness):
    harness.enter(**HOOK)
    harness.registry.jobs.cancel("a", by="a test")
    rewrite(harness, request_key("a"), format=2)
    assert not journal.close_job(harness.ctx, "a")
    assert harness.registry.steps.record("a", NOTIFY.id).dispatches == 0
    assert harness.registry.jobs.live() == []


def test_garbage_is_collected_beside_such_a_job(harness):
    harness.enter()
    harness.registry.entries.add("b", harness.registry.jobs.request("a"))
    for job_id in "ab":
        harness.registry.jobs.cancel(job_id, by="a test")
        journal.record_request(harness.ctx, job_id, harness.registry.jobs.request(job_id))
        journal.close_job(harness.ctx, job_id)
        harness.store.put(keys.attempt(job_id, "embed", 1, "speech"), b"speech")
    rewrite(harness, job_key("a"), format=2)
    harness.clock.advance(2 * harness.ctx.settings.keep_intermediates_s)
    found = [each.name for each in find_garbage(harness.ctx) if each.reason != "abandoned"]
    assert found == ["jobs/b/"]
