"""Texts that the default voice may read, as English, and those of other languages."""

from __future__ import annotations

import pytest

from farm.job.english import is_english

ENGLISH = [
    "Hello world!",
    "Good morning, and welcome.",
    "My name is Anna. I sell apples.",
    "Nobody has recorded these words. A program speaks them.",
    "(s1) Who are you? (s2) I am the second voice.",
]

OTHERS = [
    "Guten Tag, wie geht es Ihnen heute?",
    "Ich will so an die See, was war denn das?",
    "Bonjour à tous, on a deux nouvelles pour vous.",
    "No me digas que a él le gusta.",
    "Ciao, come va? Oggi parlo di me.",
    "Het is een dag in de week, en we gaan naar zee.",
    "Jeg vil gerne have en kop kaffe og et stykke brød til.",
    "To jest dobry dzień, a dzieci idą do domu.",
    "नमस्ते, आप कैसे हैं?",
]


@pytest.mark.parametrize("text", ENGLISH)
def test_an_english_text_has_common_words(text):
    assert is_english(text)


@pytest.mark.parametrize("text", OTHERS)
def test_a_text_of_another_language_has_none(text):
    assert not is_english(text)


def test_a_long_text_with_an_english_word_stays_what_it_is():
    assert not is_english(f"{OTHERS[0]} {OTHERS[1]} Now!")
