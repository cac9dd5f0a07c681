"""Characters that espeak-ng speaks in a second, by language: `python -m benchmarks.speaking_rate`.

The text is the first article of the Universal Declaration of Human Rights, as the United Nations
publish its translations.
"""

from __future__ import annotations

import json
from pathlib import Path

from farm.media.speech import synthesise

ARTICLE = Path(__file__).with_name("article.json")


def characters_per_s(language: str, text: str) -> float:
    """Characters of a text by the seconds of its speech."""
    samples, rate = synthesise(text, language)
    return len(text) * rate / len(samples)


def main() -> None:
    texts = json.loads(ARTICLE.read_text("utf-8"))
    rates = {language: characters_per_s(language, text) for language, text in texts.items()}
    rates["mean"] = sum(rates.values()) / len(rates)
    for language, rate in rates.items():
        print(f"{language:8} {rate:5.1f}")


if __name__ == "__main__":
    main()
