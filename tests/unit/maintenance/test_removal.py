"""What is gone once a job is deleted, and what stays because another job has it."""

from __future__ import annotations

from typing import Any

import pytest

from farm.engine import journal
from farm.engine.context import Context
from farm.errors import UnknownJob
from farm.maintenance.gc import find_garbage
from farm.maintenance.removal import delete_job
from farm.registry import Registry
from farm.registry.accounts import Demand
from farm.settings import Settings
from farm.store import keys, open_store
from tests.support.backends import ClockBackend, Countdown, Interrupted
from tests.support.jobs import job_request
from tests.support.recovery import store_chunks, store_video

FACE = keys.upload(b"a face")
VOICE = keys.upload(b"a voice")
UPLOADS = {FACE: 6, VOICE: 7}
REQUEST = job_request(
    cond_video=keys.SCHEME + FACE,
    cond_audio={"person1": keys.SCHEME + VOICE},
    idempotency_key="order 66",
)


def add(ctx, job_id, *, caller="anna", uploads=UPLOADS) -> None:
    """Enters a job whose uploads are stored and count as its caller's, and ends it."""
    for key, size in uploads.items():
        ctx.store.put(key, b"x" * size)
    journal.record_request(ctx, job_id, REQUEST, caller)
    ctx.registry.entries.add(job_id, REQUEST, caller=caller, demand=Demand(uploads=uploads))
    ctx.registry.jobs.cancel(job_id, by="the caller")
    journal.close_job(ctx, job_id)


def has_uploads(ctx, caller) -> bool:
    return any(ctx.registry.accounts.has_upload(caller, *upload) for upload in UPLOADS.items())


def test_a_deleted_job_leaves_nothing(ctx):
    add(ctx, "a")
    store_chunks(ctx, last=2)
    store_video(ctx)
    delete_job(ctx, "a")
    assert list(ctx.store.keys("")) == []
    assert list(ctx.registry.jobs.newest()) == []
    assert not has_uploads(ctx, "anna")
    assert ctx.registry.entries.first_job(REQUEST, "anna") is None, "the same request is a new job"
    with pytest.raises(UnknownJob):
        delete_job(ctx, "a")


def test_what_a_step_stores_while_its_job_is_removed_goes_too(ctx, monkeypatch):
    add(ctx, "a")
    forget = ctx.registry.entries.forget

    def store_and_forget(*arguments: Any) -> None:
        ctx.store.put(keys.attempt("a", "embed", "0001-aaaa", "late.bin"), b"a face")
        forget(*arguments)

    monkeypatch.setattr(ctx.registry.entries, "forget", store_and_forget)
    delete_job(ctx, "a")
    assert list(ctx.store.keys("")) == []


def test_uploads_of_another_job_stay(ctx):
    add(ctx, "a")
    add(ctx, "b", caller="bob")
    delete_job(ctx, "a")
    assert sorted(ctx.store.keys(keys.UPLOADS)) == sorted(UPLOADS)
    assert not has_uploads(ctx, "anna"), "she may not name them any more"
    assert has_uploads(ctx, "bob")
    delete_job(ctx, "b")
    assert list(ctx.store.keys("")) == []


@pytest.mark.parametrize("calls", range(32))
def test_an_interrupted_deletion_can_be_repeated(tmp_path, calls):
    clock = ClockBackend()
    store = open_store("memory://")
    ctx = Context(Settings(home=tmp_path), store, Registry(clock))
    add(ctx, "a")
    store_chunks(ctx, last=1)
    countdown = Countdown(calls)
    interrupted = Context(
        ctx.settings,
        Interrupted(store, countdown, "delete"),
        Registry(Interrupted(clock, countdown, "delete", "remove_member")),
    )
    try:
        delete_job(interrupted, "a")
    except KeyboardInterrupt:
        again = Context(ctx.settings, store, Registry(clock))
        list(find_garbage(again))
        if again.registry.jobs.exists("a"):
            delete_job(again, "a")
    assert list(store.keys(keys.UPLOADS)) == []
    assert clock.texts == {}
