"""The step of a job that is due, and the end of a job whose worker died before it was closed."""

from __future__ import annotations

from farm.engine import journal
from farm.engine.advance import claim_due_step
from farm.registry.keys import step_key
from farm.route import DOWNLOAD, EMBED, MUX, Step
from tests.support.harness import Harness, refuse
from tests.support.outputs import embed_output
from tests.support.steps import acquire


def due(harness: Harness) -> Step | None:
    return claim_due_step(harness.ctx, "a")


def test_the_first_step_of_a_new_job_is_due_once(entered):
    assert due(entered) == DOWNLOAD
    assert due(entered) is None


def test_a_step_whose_message_waits_is_never_due_again_but_a_lost_one_is(entered):
    due(entered)
    entered.clock.advance(365 * 86_400)
    assert due(entered) is None
    entered.registry.steps.mark_lost("a", DOWNLOAD.id)
    assert due(entered) == DOWNLOAD


def test_no_step_is_due_while_one_is_leased(entered):
    acquire(entered.registry, DOWNLOAD.id)
    assert due(entered) is None


def test_the_step_of_a_lost_worker_is_due(entered):
    entered.lose_worker(DOWNLOAD, lease_s=15)
    assert due(entered) == DOWNLOAD


def test_the_step_behind_the_last_committed_one_is_due(entered):
    entered.complete(DOWNLOAD)
    entered.complete(EMBED, embed_output(chunks=2))
    assert due(entered) == Step("generate", 0)
    entered.complete(Step("generate", 0))
    assert due(entered) == Step("generate", 1)
    entered.complete(Step("generate", 1))
    assert due(entered) == MUX


def test_no_step_of_an_ended_job_is_due(entered):
    entered.registry.jobs.cancel("a", by="the caller")
    assert due(entered) is None


def test_an_ended_job_that_its_worker_did_not_close_is_closed(entered):
    entered.registry.jobs.cancel("a", by="the caller")
    assert entered.registry.jobs.live() == ["a"]
    due(entered)
    assert entered.registry.jobs.live() == []
    assert journal.read_end(entered.store, "a") == entered.status


def test_an_end_that_cannot_be_stored_is_stored_later(entered):
    entered.registry.jobs.cancel("a", by="the caller")
    entered.store.before_put = [refuse]
    due(entered)
    assert entered.registry.jobs.live() == ["a"]
    assert journal.read_end(entered.store, "a") is None
    due(entered)
    assert entered.registry.jobs.live() == []


def test_a_job_that_has_lost_its_number_of_chunks_ends_instead_of_being_due_for_ever(entered):
    entered.complete(EMBED, embed_output(chunks=2))
    entered.complete(Step("generate", 0))
    entered.clock.delete(step_key("a", EMBED.id))
    assert due(entered) is None
    assert entered.failure.message.startswith("generate-0000: the number of chunks is lost")
    assert (entered.status.state, entered.registry.jobs.live()) == ("error", [])


def test_a_job_whose_video_is_committed_is_ended(entered):
    entered.complete(EMBED)
    entered.complete(MUX)
    assert due(entered) is None
    assert entered.status.state == "success"
    assert entered.registry.jobs.live() == []
