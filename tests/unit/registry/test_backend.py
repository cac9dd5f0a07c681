"""What every backend must do: the same for the one in memory and the one in a real broker."""

from __future__ import annotations

import threading
import time
from math import inf

import pytest

from farm.registry import Registry
from farm.registry.backend import (
    EVENTS,
    Add,
    Append,
    Effect,
    Increment,
    RegistryBackend,
    Remove,
    Score,
    SetText,
    Swap,
)
from tests.support.threads import race


@pytest.fixture
def backend(registry: Registry) -> RegistryBackend:
    return registry.backend


def apply(backend: RegistryBackend, *effects: Effect) -> None:
    """Effects of a compare-and-set that succeeds."""
    (old,) = backend.get_all(["key"])
    assert backend.compare_and_set("key", old, f"{old}'", effects) == old


def scores(backend: RegistryBackend, index: str = "live") -> dict[str, float]:
    return dict(backend.members_between(index, -inf, inf, 100))


def texts_of(backend: RegistryBackend, stream: str) -> list[str]:
    return [text for _, text in backend.read_after(stream, "0", 0)]


# Texts


def test_a_new_text_is_set_if_there_was_none(backend):
    assert backend.compare_and_set("key", None, "new") is None
    assert backend.get_all(["key"]) == ["new"]


def test_a_text_is_replaced_if_it_is_the_expected_one(backend):
    backend.compare_and_set("key", None, "old")
    assert backend.compare_and_set("key", "old", "new") == "old"
    assert backend.get_all(["key"]) == ["new"]


@pytest.mark.parametrize("expected", [None, "another"])
def test_another_text_than_the_expected_one_is_returned_and_stays(backend, expected):
    backend.compare_and_set("key", None, "old")
    assert backend.compare_and_set("key", expected, "new") == "old"
    assert backend.get_all(["key"]) == ["old"]


def test_a_text_that_is_gone_is_not_replaced(backend):
    assert backend.compare_and_set("key", "old", "new") is None
    assert backend.get_all(["key"]) == [None]


def test_texts_are_returned_in_the_order_asked_for(backend):
    for key in "ab":
        backend.compare_and_set(key, None, f"text of {key}")
    assert backend.get_all(["b", "missing", "a"]) == ["text of b", None, "text of a"]
    assert backend.get_all([]) == []


def test_of_concurrent_changes_of_a_text_one_succeeds(backend):
    answers = race(lambda: backend.compare_and_set("key", None, "new"))
    assert answers.count(None) == 1


def test_a_deleted_text_or_stream_is_gone(backend):
    apply(backend, Append("stream", "event"))
    for key in ("key", "stream", "missing"):
        backend.delete(key)
    assert backend.get_all(["key"]) == [None]
    assert texts_of(backend, "stream") == []


# Effects


def test_set_text_writes_a_text_whatever_it_was_before(backend):
    apply(backend, SetText("other", "first"))
    apply(backend, SetText("other", "second"))
    assert backend.get_all(["other"]) == ["second"]


def test_append_appends_to_a_stream(backend):
    apply(backend, Append("stream", "first"), Append("stream", "second"))
    apply(backend, Append("stream", "third"))
    assert texts_of(backend, "stream") == ["first", "second", "third"]


def test_add_enters_a_member_once(backend):
    apply(backend, Add("live", "a", 1))
    apply(backend, Add("live", "a", 2))
    assert scores(backend) == {"a": 1}


def test_score_changes_a_member_and_adds_none(backend):
    apply(backend, Add("live", "a", 1))
    apply(backend, Score("live", "a", 2), Score("live", "b", 2))
    assert scores(backend) == {"a": 2}


def test_increment_counts_from_zero(backend):
    apply(backend, Increment("ended", "success"))
    apply(backend, Increment("ended", "success"), Increment("ended", "error"))
    assert scores(backend, "ended") == {"success": 2, "error": 1}


def test_remove_takes_a_member_out_of_an_index(backend):
    apply(backend, Add("live", "a", 1), Add("live", "b", 1))
    apply(backend, Remove("live", "a"), Remove("live", "missing"))
    assert scores(backend) == {"b": 1}


def test_texts_are_swapped_together_or_not_at_all(backend):
    first, second = Swap("a", None, "A"), Swap("b", None, "B")
    assert backend.swap([first, second], [Add("index", "member", 1)]) is None
    assert backend.get_all(["a", "b"]) == ["A", "B"]
    again = [Swap("a", "A", "AA"), Swap("b", "another", "BB"), Swap("c", None, "CC")]
    assert backend.swap(again, [Add("index", "another", 1)]) == ["A", "B", None]
    assert backend.get_all(["a", "b", "c"]) == ["A", "B", None]
    assert backend.members_below("index", inf) == ["member"]


def test_every_kind_of_effect_is_applied_in_one_compare_and_set(backend):
    apply(backend, Add("live", "b", 1), Add("live", "c", 1))
    apply(
        backend,
        SetText("other", "text"),
        Append("stream", "event"),
        Add("live", "a", 1),
        Score("live", "b", 5),
        Remove("live", "c"),
        Increment("ended", "success"),
    )
    assert backend.get_all(["other"]) == ["text"]
    assert texts_of(backend, "stream") == ["event"]
    assert scores(backend) == {"a": 1, "b": 5}
    assert scores(backend, "ended") == {"success": 1}


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ([Add("live", "a", 1), Score("live", "b", 5)], {"a": 1, "b": 5}),
        ([Score("live", "b", 5), Add("live", "a", 1)], {"a": 1, "b": 5}),
        ([Add("live", "a", 1), Add("live", "c", 2)], {"a": 1, "b": 0, "c": 2}),
        ([Add("live", "a", 1), Remove("live", "b")], {"a": 1}),
        ([Score("live", "b", 5), Increment("live", "b")], {"b": 6}),
    ],
    ids=["add and score", "score and add", "two adds", "add and remove", "score and increment"],
)
def test_several_effects_on_one_index_all_take_effect(backend, effects, expected):
    apply(backend, Add("live", "b", 0))
    apply(backend, *effects)
    assert scores(backend) == expected


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ([Add("live", "a", 1), Score("live", "a", 2)], {"a": 2}),
        ([Score("live", "a", 2), Add("live", "a", 1)], {"a": 1}),
        ([Add("live", "a", 1), Remove("live", "a")], {}),
        ([Remove("live", "a"), Add("live", "a", 1)], {"a": 1}),
        ([Add("live", "a", 1), Increment("live", "a"), Increment("live", "a", 0.5)], {"a": 2.5}),
    ],
    ids=["add, score", "score, add", "add, remove", "remove, add", "add, increment twice"],
)
def test_effects_on_one_member_are_applied_in_order(backend, effects, expected):
    apply(backend, *effects)
    assert scores(backend) == expected


def test_effects_on_one_text_are_applied_in_order_behind_the_text_itself(backend):
    effects = [SetText("other", "first"), SetText("other", "second"), SetText("key", "last")]
    apply(backend, *effects)
    assert backend.get_all(["key", "other"]) == ["last", "second"]


def test_no_effect_is_applied_if_the_text_is_another(backend):
    apply(backend, Add("live", "b", 0))
    effects = [
        SetText("other", "text"),
        Append("stream", "event"),
        Add("live", "a", 1),
        Score("live", "b", 5),
        Increment("live", "b"),
        Remove("live", "b"),
    ]
    assert backend.compare_and_set("key", "another text", "new", effects) == "None'"
    assert backend.get_all(["key", "other"]) == ["None'", None]
    assert (texts_of(backend, "stream"), scores(backend)) == ([], {"b": 0})


def test_effects_are_applied_atomically(backend):
    backend.compare_and_set("key", None, "0")

    def count() -> None:
        """Counts in a text, a stream and an index, as often as it takes to succeed."""
        while True:
            (old,) = backend.get_all(["key"])
            new = str(int(old) + 1)
            effects = [Append("stream", new), Increment("index", "changes")]
            if backend.compare_and_set("key", old, new, effects) == old:
                return

    race(count)
    assert backend.get_all(["key"]) == ["8"]
    assert texts_of(backend, "stream") == list("12345678")
    assert scores(backend, "index") == {"changes": 8}


# Streams


def test_events_are_read_after_a_position(backend):
    apply(backend, Append("stream", "first"), Append("stream", "second"))
    (first, _), (second, _) = backend.read_after("stream", "0", 0)
    assert [text for _, text in backend.read_after("stream", first, 0)] == ["second"]
    assert backend.read_after("stream", second, 0.01) == []


def test_of_many_events_some_are_read_at_once_and_none_is_left_out(backend):
    written = [str(number) for number in range(EVENTS + 1)]
    apply(backend, *(Append("stream", each) for each in written))

    first = backend.read_after("stream", "0", 0)
    rest = backend.read_after("stream", first[-1][0], 0)

    assert len(first) == EVENTS
    assert [text for _, text in first + rest] == written


def test_a_reader_waits_for_the_first_event(backend):
    writer = threading.Timer(0.1, apply, (backend, Append("stream", "event")))
    start = time.monotonic()
    writer.start()
    found = backend.read_after("stream", "0", 60)
    assert [text for _, text in found] == ["event"]
    assert time.monotonic() - start < 30
    writer.join()


# Indices


@pytest.fixture
def index(backend: RegistryBackend) -> RegistryBackend:
    """A backend with an index of four members, two of them with the same score."""
    for member, score in (("d", 3.0), ("b", 2.0), ("c", 2.0), ("a", 1.5)):
        backend.add_member("index", member, score)
    return backend


def test_members_are_listed_from_the_highest_score_down(index):
    assert index.newest_members("index", 0, 10) == ["d", "c", "b", "a"]
    assert index.newest_members("index", 1, 2) == ["c", "b"]
    assert index.newest_members("index", 4, 2) == []
    assert index.newest_members("index", 1, 2, high=2.0) == ["b", "a"]


def test_members_below_a_score_include_those_that_have_it(index):
    assert index.members_below("index", 2) == ["a", "b", "c"]
    assert index.members_below("index", 1) == []
    assert index.members_below("index", inf) == ["a", "b", "c", "d"]


def test_members_between_two_scores_exclude_the_lower_one(index):
    assert index.members_between("index", 1.5, 3, 10) == [("b", 2), ("c", 2), ("d", 3)]
    assert index.members_between("index", 1.5, 3, 2) == [("b", 2), ("c", 2)]
    assert index.members_between("index", 3, inf, 2) == []


def test_members_are_counted_up_to_a_score(index):
    assert index.size("index") == 4
    assert (index.size("index", 2), index.size("index", 1)) == (3, 0)
    assert index.size("missing") == 0


def test_adding_a_member_again_changes_its_score(index):
    index.add_member("index", "a", 9)
    assert scores(index, "index") == {"a": 9, "b": 2, "c": 2, "d": 3}


def test_an_index_knows_the_scores_of_its_members(index):
    assert index.score("index", "b") == 2
    assert index.score("index", "missing") is None
    assert index.score("missing", "a") is None


def test_removing_a_member_takes_it_out(index):
    index.remove_member("index", "a")
    index.remove_member("index", "missing")
    assert index.members_below("index", inf) == ["b", "c", "d"]


def test_the_clock_runs_in_seconds_since_1970(backend):
    assert abs(backend.now() - time.time()) < 5
