"""Texts with turns of two speakers."""

from __future__ import annotations

import pytest

from farm.job.dialogue import has_turns, turns


def test_every_mark_starts_a_turn():
    assert turns("(s1) Hello! (s2) Good morning.\n(s1)How are you?") == [
        (1, "Hello!"),
        (2, "Good morning."),
        (1, "How are you?"),
    ]


def test_a_colon_behind_a_mark_is_not_spoken():
    assert turns("(s1): Hi (s2) : Hello: you (s1)：Yes") == [
        (1, "Hi"),
        (2, "Hello: you"),
        (1, "Yes"),
    ]
    with pytest.raises(ValueError, match="has no text"):
        turns("(s1): (s2) b")


def test_either_speaker_may_start_and_continue():
    assert [turn.speaker for turn in turns("  (S2) a (s2) b (s1) c")] == [2, 2, 1]


@pytest.mark.parametrize("text", ["(s 1) a", "(one) two", "s1: hello", "(s) hello", "(1) first"])
def test_text_that_resembles_a_mark_is_spoken(text):
    assert not has_turns(text)
    assert turns(f"(s1) {text} (s2) b")[0] == (1, text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "'hello' precedes the first mark"),
        ("hello (s1) a (s2) b", "'hello' precedes the first mark"),
        ("(s1) a (s3) b (s2) c", r"the mark \(s3\) is unknown"),
        ("(s0) a (s1) b (s2) c", r"the mark \(s0\) is unknown"),
        ("(s1) a (s2) \n (s1) b", r"turn 2, of \(s2\), has no text"),
        ("(s1) a (s2)", r"turn 2, of \(s2\), has no text"),
        ("(s1): (s2): a", r"turn 1, of \(s1\), has no text"),
        (f"(s{'9' * 999}) a", r"the mark \(s9{80}\.\.\. \(999 characters\)\) is unknown"),
        ("(s1) a (s1) b", r"\(s2\) has no turn"),
        ("(s2) a", r"\(s1\) has no turn"),
    ],
)
def test_a_text_without_a_turn_for_every_word_and_speaker_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        turns(text)
