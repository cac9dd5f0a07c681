"""The identity of a farm: its store and its broker hold the same id."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.engine.identity import check_identity, stored_id
from farm.errors import InvalidInput, UploadFailed
from farm.registry import Registry, open_registry
from farm.registry.identity import Identity
from farm.settings import Settings
from farm.store import keys, open_store
from tests.support.backends import ClockBackend, HookedStore
from tests.support.harness import refuse
from tests.support.threads import race


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(Settings(home=tmp_path), HookedStore(), Registry(ClockBackend()))


def test_a_new_farm_has_one_id_in_store_and_broker(ctx):
    farm_id = check_identity(ctx)
    assert (stored_id(ctx.store), ctx.registry.identity.read()) == (farm_id, Identity(farm_id))
    assert check_identity(ctx) == farm_id


def test_another_farm_has_another_id(ctx):
    other = replace(ctx, store=HookedStore(), registry=open_registry("memory://"))
    assert check_identity(ctx) != check_identity(other)


def test_a_broker_that_has_lost_everything_is_given_the_id_of_the_store(ctx):
    farm_id = check_identity(ctx)
    emptied = replace(ctx, registry=open_registry("memory://"))
    assert check_identity(emptied) == farm_id
    assert emptied.registry.identity.read() == Identity(farm_id)


@pytest.mark.parametrize("used", [True, False], ids=["another farm's", "an empty one"])
def test_another_store_under_the_same_name_is_refused(ctx, used):
    farm_id = check_identity(ctx)
    wrong = replace(ctx, store=HookedStore())
    if used:
        check_identity(replace(wrong, registry=open_registry("memory://")))
    kept = dict(wrong.store.objects)
    with pytest.raises(InvalidInput) as caught:
        check_identity(wrong)
    assert all(
        name in caught.value.message
        for name in ("FARM_STORE_URL", "FARM_BROKER_URL", "FARM_NAME", farm_id)
    )
    assert (wrong.store.objects, ctx.registry.identity.read()) == (kept, Identity(farm_id))


def test_processes_that_start_a_new_farm_at_once_agree(ctx):
    ids = race(lambda: check_identity(ctx))
    assert len(ids) == 8
    assert set(ids) == {stored_id(ctx.store)}


def test_a_process_waits_for_the_one_that_is_writing_a_new_id(ctx, monkeypatch):
    ctx.registry.identity.replace(None, Identity("first", pending_until=ctx.registry.now() + 60))

    def write(_: float) -> None:
        ctx.store.put(keys.FARM, json.dumps({"id": "first"}).encode())

    monkeypatch.setattr("farm.engine.identity.time.sleep", write)
    assert check_identity(ctx) == "first"
    assert ctx.registry.identity.read() == Identity("first")


def test_two_farms_that_start_at_once_under_one_name_are_told_apart(ctx, monkeypatch):
    other = replace(ctx, store=HookedStore())
    ctx.registry.identity.replace(None, Identity("first", pending_until=ctx.registry.now() + 60))

    def write(_: float) -> None:
        ctx.store.put(keys.FARM, json.dumps({"id": "first"}).encode())
        check_identity(ctx)

    monkeypatch.setattr("farm.engine.identity.time.sleep", write)
    with pytest.raises(InvalidInput, match="the store is that of no farm yet"):
        check_identity(other)


def test_a_process_that_died_before_it_wrote_the_id_is_succeeded(ctx):
    ctx.registry.identity.replace(None, Identity("dead", pending_until=ctx.registry.now() + 60))
    ctx.registry.backend.advance(61)
    assert check_identity(ctx) != "dead"


def test_a_process_that_died_after_it_wrote_the_id_has_entered_it(ctx):
    ctx.registry.identity.replace(None, Identity("dead", pending_until=ctx.registry.now() + 60))
    ctx.store.put(keys.FARM, b'{"id": "dead"}')
    assert check_identity(ctx) == "dead"
    assert ctx.registry.identity.read() == Identity("dead")


def test_a_store_that_takes_no_id_leaves_the_farm_to_the_next_one(ctx):
    ctx.store.before_put = [refuse]
    with pytest.raises(UploadFailed):
        check_identity(ctx)
    assert check_identity(ctx) == stored_id(ctx.store)


def test_a_store_with_a_file_of_that_name_is_refused(ctx):
    ctx.store.put(keys.FARM, b"[]")
    with pytest.raises(InvalidInput, match=r"FARM_STORE_URL: farm\.json in that store is no"):
        check_identity(ctx)


def test_a_store_and_a_broker_in_earnest(broker, store, tmp_path):
    ctx = Context(Settings(home=tmp_path), store, open_registry(broker))
    farm_id = check_identity(ctx)
    assert check_identity(replace(ctx, registry=open_registry(broker))) == farm_id
    with pytest.raises(InvalidInput):
        check_identity(replace(ctx, store=open_store("memory://")))
    named = replace(ctx, registry=open_registry(broker, prefix="other:"))
    assert check_identity(replace(named, store=open_store("memory://"))) != farm_id
