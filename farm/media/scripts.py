"""Scripts (writing systems): which letters of a text a voice reads, and which it only names.

Measured with espeak-ng 1.52: for the letters of some scripts its voices borrow another language's;
those of all others they name one by one, "Chinese letter, Chinese letter".
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Set

LATIN = "LATIN"
CHINESE = "CHINESE"
JAPANESE = "JAPANESE"
"""Kana and Chinese characters in one text; no voice reads both."""

LANGUAGES = {
    "ARABIC": "ar fa ur sd ug",
    "ARMENIAN": "hy hyw",
    "BENGALI": "bn as bpy",
    CHINESE: "cmn yue zh",
    "CYRILLIC": "ru uk bg sr be mk kk ky tt ba cv nog bs hr hbs uz lfn ka",
    "DEVANAGARI": "hi mr ne kok",
    "ETHIOPIC": "am ti",
    "GEORGIAN": "ka",
    "GREEK": "el grc",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    LATIN: "en es fr de it",
    "MALAYALAM": "ml",
    "MYANMAR": "my shn",
    "ORIYA": "or",
    "SHAVIAN": "en",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}
"""The languages whose voices read each script, the most spoken first; for Latin a few of them."""

WITHOUT_LATIN = "ba cv hyw ja kok ky my nog shn ti"
"""The languages whose voices name Latin letters; others read them, if need be as English."""

BORROWED = frozenset(
    [
        "ARMENIAN",
        "BENGALI",
        "DEVANAGARI",
        "GEORGIAN",
        "GUJARATI",
        "GURMUKHI",
        "HANGUL",
        "KANNADA",
        "MALAYALAM",
        "SINHALA",
        "TAMIL",
    ]
)
"""The scripts for which any voice of espeak-ng borrows a language."""

KANA = {"HIRAGANA", "KATAKANA"}
LETTERS = {"Lu", "Ll", "Lt", "Lo"}
"""Unicode's categories of letters, without marks and modifiers, which belong to several scripts."""


def scripts_of(language: str) -> set[str]:
    """The scripts that the voices of a language, such as `en-us`, read as that language."""
    primary, _, _ = language.partition("-")
    found = {script for script, languages in LANGUAGES.items() if primary in languages.split()}
    return found if primary in WITHOUT_LATIN.split() else found | {LATIN}


def unread_script(text: str, scripts: Set[str]) -> str | None:
    """The commonest other script in a text, if most of its letters are in none of `scripts`."""
    counts = _letters_by_script(text)
    unread = Counter({script: count for script, count in counts.items() if script not in scripts})
    is_symbol = unread.total() == 1  # as in "5 Ω"
    if is_symbol or 2 * unread.total() <= counts.total():
        return None
    ((script, _),) = unread.most_common(1)
    return script


def unread_kanji(text: str, scripts: Set[str]) -> list[str]:
    """Each Chinese character in a text for a voice that reads kana but not those: it leaves out
    some, and reads something else for others.
    """
    if CHINESE in scripts or not scripts & KANA:
        return []
    return list(dict.fromkeys(letter for letter, script in _letters(text) if script == CHINESE))


def _letters_by_script(text: str) -> Counter[str]:
    """A Chinese character counts twice, since it stands for about two letters."""
    counts: Counter[str] = Counter()
    for _, script in _letters(text):
        counts[script] += 2 if script == CHINESE else 1
    if CHINESE in counts and counts.keys() & KANA:
        counts[JAPANESE] = sum(counts.pop(script, 0) for script in (CHINESE, *KANA))
    return counts


def _letters(text: str) -> Iterator[tuple[str, str]]:
    """The letters of a text, each with its script."""
    # Compatibility forms, such as full-width letters, are read as the plain ones.
    for character in unicodedata.normalize("NFKC", text):
        if unicodedata.category(character) in LETTERS:
            script = re.split("[ -]", unicodedata.name(character, "UNKNOWN"))[0]
            yield character, CHINESE if script == "CJK" else script
