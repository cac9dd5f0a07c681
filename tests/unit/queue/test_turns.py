"""Turns at hosts: who downloads, who waits, and who is next."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.queue.app import make_app
from farm.queue.brokers import open_broker
from farm.queue.turns import HostTurns
from farm.registry import open_registry
from farm.route import DOWNLOAD
from farm.settings import Settings
from farm.store import open_store
from tests.support.jobs import job_request
from tests.support.steps import acquire


@pytest.fixture
def ctx(broker: str, tmp_path: Path) -> Context:
    settings = Settings(home=tmp_path, broker_url=broker)
    return Context(settings, open_store("memory://"), open_registry(broker))


@pytest.fixture
def turns(ctx: Context) -> HostTurns:
    return HostTurns(make_app(ctx.settings), lambda: ctx, per_host=2)


def enter(ctx: Context, job_id: str, *hosts: str) -> None:
    """Adds a job with its face and its voice at these hosts, whose message is delivered."""
    face, voice = (f"https://{host}/" for host in (*hosts, *hosts)[:2])
    ctx.registry.entries.add(job_id, job_request(cond_video=face, cond_audio={"person1": voice}))
    ctx.registry.steps.claim_dispatch(job_id, DOWNLOAD.id)


def sent(ctx: Context) -> set[str]:
    """The jobs with a message in the queue."""
    return {job_id for job_id, _ in open_broker(ctx.settings).waiting_steps() or ()}


def is_granted(turns: HostTurns, job_id: str) -> bool:
    with turns.turn(job_id) as granted:
        return granted


def test_a_host_has_so_many_turns_and_others_have_theirs(ctx, turns):
    for job_id in ("a", "b", "c"):
        enter(ctx, job_id, "slow.example.org")
    enter(ctx, "d", "other.example.org")
    with turns.turn("a") as first, turns.turn("b") as second:
        granted = [first, second, is_granted(turns, "c"), is_granted(turns, "d")]
    assert granted == [True, True, False, True]


def test_a_job_that_waits_holds_nothing_until_a_turn_is_free(ctx, turns):
    for job_id in ("a", "b", "c"):
        enter(ctx, job_id, "example.org")
    with turns.turn("b"):
        with turns.turn("a"):
            assert not is_granted(turns, "c")
            # Its step is covered, without a message
            assert (ctx.registry.jobs.orphaned(), sent(ctx)) == ([], set())
        # Then it is dispatched at once
        assert sent(ctx) == {"c"}
        assert is_granted(turns, "c")
    assert ctx.registry.hosts.first("example.org", 9) == []


def test_those_that_wait_are_dispatched_in_order_and_no_more_than_there_are_turns(ctx, turns):
    for job_id in "abcdefg":
        enter(ctx, job_id, "example.org")
    with ExitStack() as first:
        for job_id in "ab":
            first.enter_context(turns.turn(job_id))
        for job_id in "cdefg":
            assert not is_granted(turns, job_id)
    # The first turn to end sent c; the second one found two turns free
    assert sent(ctx) == {"c", "d", "e"}
    assert ctx.registry.hosts.first("example.org", 9) == ["f", "g"]


def test_a_turn_that_ends_in_an_error_is_given_back(ctx, turns):
    for job_id in ("a", "b", "c"):
        enter(ctx, job_id, "example.org")
    with turns.turn("a"):
        with suppress(ZeroDivisionError), turns.turn("b"):
            assert not is_granted(turns, "c")
            _ = 1 / 0
        assert sent(ctx) == {"c"}


def test_a_job_that_ended_while_it_waited_gives_way_to_the_next(ctx, turns):
    for job_id in ("a", "b", "c", "d"):
        enter(ctx, job_id, "example.org")
    with turns.turn("a"):
        with turns.turn("b"):
            for job_id in ("c", "d"):
                assert not is_granted(turns, job_id)
            ctx.registry.jobs.cancel("c", by="a test")
        assert sent(ctx) == {"d"}


@pytest.mark.parametrize("is_in_line", [False, True])
def test_a_turn_that_becomes_free_while_a_job_lines_up_is_its(ctx, turns, monkeypatch, is_in_line):
    for job_id in ("a", "b", "c"):
        enter(ctx, job_id, "example.org")
    held = ExitStack()
    for job_id in ("a", "b"):
        held.enter_context(turns.turn(job_id))
    line_up = ctx.registry.hosts.line_up

    def end_turns_meanwhile(host: str, job_id: str) -> None:
        if is_in_line:
            line_up(host, job_id)
            held.close()
        else:
            held.close()
            line_up(host, job_id)

    monkeypatch.setattr(ctx.registry.hosts, "line_up", end_turns_meanwhile)
    assert not is_granted(turns, "c")
    assert sent(ctx) == {"c"}


def test_a_duplicate_of_a_running_download_does_not_wait(ctx, turns):
    for job_id in ("a", "b"):
        enter(ctx, job_id, "example.org")
    acquire(ctx.registry, DOWNLOAD.id, job_id="a")
    with turns.turn("a"), turns.turn("b"):
        assert not is_granted(turns, "a")
        assert ctx.registry.hosts.first("example.org", 9) == []


def test_a_job_with_two_hosts_needs_a_turn_at_both(ctx, turns):
    enter(ctx, "a", "one.example.org")
    enter(ctx, "b", "one.example.org")
    enter(ctx, "c", "two.example.org", "one.example.org")
    enter(ctx, "d", "two.example.org")
    enter(ctx, "e", "two.example.org")
    with turns.turn("a"), turns.turn("b"):
        assert not is_granted(turns, "c")
        # It took no turn at the other host meanwhile
        with turns.turn("d") as fourth, turns.turn("e") as fifth:
            assert (fourth, fifth) == (True, True)


def test_names_of_a_host_are_compared_as_dns_does(ctx, turns):
    for job_id, host in (("a", "Example.org"), ("b", "example.org."), ("c", "example.org:8443")):
        enter(ctx, job_id, host)
    with turns.turn("a"), turns.turn("b"):
        assert not is_granted(turns, "c")


def test_a_job_without_urls_needs_no_turn(ctx, turns):
    source = "store://uploads/" + "0" * 64
    for job_id in ("a", "b", "c"):
        request = job_request(cond_video=source, cond_audio={"person1": source})
        ctx.registry.entries.add(job_id, request)
    with turns.turn("a"), turns.turn("b"), turns.turn("c") as granted:
        assert granted
