"""The names of voices: `en-us`, `en-us+f3` with a variant, or `kokoro:af_heart`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal
from unicodedata import combining, normalize

from pydantic_core import PydanticCustomError

from farm.errors import MAX_SHOWN, InvalidInput, shorten
from farm.job.espeak_voices import LANGUAGES, VARIANTS
from farm.job.own_names import OWN_NAMES

KOKORO = "kokoro:"
"""Prefix of Kokoro's voices, of which only a worker knows the rest."""

DEFAULT_VOICE = "en-us"
"""What reads a text for which no voice is given."""

NO_VOICE = "no voice has that name"
ALLOWED = "a voice that `farm voices` lists, such as en-us, en-us+f3 or kokoro:af_heart"

_MIN_SIMILARITY = 0.75
"""Codes are so short that with less almost every name is close to one."""


@dataclass(frozen=True)
class Voice:
    """A voice, and the code and the English name of the language that it speaks."""

    name: str
    language: str
    language_name: str
    synthesiser: Literal["espeak-ng", "kokoro"] = "espeak-ng"

    @classmethod
    def of_kokoro(cls, name: str, language: str) -> Voice:
        return cls(KOKORO + name, language, LANGUAGES[language], "kokoro")

    @property
    def label(self) -> str:
        """Its language, in English and as those who speak it say: `German, Deutsch`."""
        own_name = self._own_name
        return f"{self.language_name}, {own_name}" if own_name else self.language_name

    def speaks(self, language: str) -> bool:
        """Whether it speaks a language, given by its code, part of that, or one of its names."""
        names = _plain(_word(self.language_name)), _plain(self._own_name)
        return f"{self.language}-".startswith(f"{language.lower()}-") or _plain(language) in names

    @property
    def _own_name(self) -> str:
        """Empty if it is not known, or the same as in English."""
        return OWN_NAMES.get(self.language.partition("-")[0], "")


ESPEAK = tuple(Voice(code, code, name) for code, name in LANGUAGES.items())
"""The voices that every farm has."""


def check_voice(name: str) -> str:
    """Raises PydanticCustomError, with the nearest name as its hint, for no voice's name."""
    if not name.startswith(KOKORO) and not is_espeak_voice(name):
        raise PydanticCustomError("voice", NO_VOICE, {"hint": did_you_mean_voice(name)})
    return name


def unknown_kokoro_voice(field: str, voice: str, known: Collection[str]) -> InvalidInput:
    """The error for a voice that is none of Kokoro's `known` ones, which have no prefix."""
    got = f"{field}: got {shorten(repr(voice))}"
    if not known:
        return InvalidInput(f"{got}; this farm has no Kokoro voices, see docs/operations/kokoro.md")
    hint = did_you_mean_voice(voice, known)
    return InvalidInput(f"{got}; {NO_VOICE}; allowed: {ALLOWED}{hint}")


def is_espeak_voice(name: str) -> bool:
    """Whether a name is a language, in any case, with a variant or without."""
    language, plus, variant = name.partition("+")
    return language.lower() in LANGUAGES and (not plus or variant in VARIANTS)


def did_you_mean_voice(name: str, kokoro: Iterable[str] = ()) -> str:
    """`; did you mean de?` for the end of an error; empty if no voice is near.

    `kokoro` are Kokoro's voices, without their prefix.
    """
    near = _nearest(name[:MAX_SHOWN], kokoro)
    return f"; did you mean {near}?" if near else ""


def _nearest(name: str, kokoro: Iterable[str]) -> str | None:
    if name.startswith(KOKORO):
        return _closest(name, [KOKORO + each for each in kokoro])
    language, _, variant = name.partition("+")
    code = _nearest_language(language.lower().replace("_", "-"))
    near_variant = _closest(variant.lower(), VARIANTS)
    return f"{code}+{near_variant}" if code and near_variant else code


def _nearest_language(name: str) -> str | None:
    """The code that is meant by a name in English or in the language itself, by a locale such as
    de-de, or by a misspelt one.
    """
    name = re.sub("-uk$", "-gb", name)  # which is the country's code
    locale = re.fullmatch("([a-z]+)(-[a-z]{4})?-([a-z]{2}|[0-9]{3})", name)
    for code in (name, locale and locale[1]):
        if code in LANGUAGES:
            return code
    known = [*LANGUAGES.items(), *OWN_NAMES.items()]
    codes = {_plain(_word(word)): code for code, word in reversed(known)}
    word = _closest(_plain(name), codes)
    return codes[word] if word else _closest(name, LANGUAGES)


def _plain(word: str) -> str:
    """A word without capitals and accents, which many keyboards lack."""
    return "".join(each for each in normalize("NFKD", word.lower()) if not combining(each))


def _word(language_name: str) -> str:
    """The name of a language without its region."""
    return language_name.partition(" (")[0]


def _closest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=_MIN_SIMILARITY)), None)
