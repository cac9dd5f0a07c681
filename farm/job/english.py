"""Whether a text is English, the language of the voice that reads it if none is given."""

from __future__ import annotations

import re

COMMON = (
    "about after again always and any are because before can could day each every first from get "
    "good happy has have he hello her here hi his how if into it its just know let like make many "
    "more most my never new not now one only other our out people please she should some than "
    "thank thanks that the their them then there these they this three time today two very want "
    "welcome were what when where which who with world would yes you your"
)
"""Words of nearly every English sentence that other languages in Latin letters have seldom."""

MIN_SHARE = 0.1
"""Of a text's words that are common ones; measured, see the lab log."""


def is_english(text: str) -> bool:
    """Whether so many words of a text are common English ones that it is hardly of any other
    language. False for a short English one without any.
    """
    common = set(COMMON.split())
    words = re.findall(r"[^\W\d_]+", text.lower())
    return sum(word in common for word in words) >= max(1, MIN_SHARE * len(words))
