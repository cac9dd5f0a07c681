"""Writes the reference pages in docs/reference from the descriptions in the code.

    python -m docs.generate            writes the pages
    python -m docs.generate --check    exits 1 if a page differs from the code

Settings, metrics, errors and the job contract are described in the code and nowhere else. So are
the settings in compose.yaml and .env.example, and the types of a job's fields in Python. The names
of voices are those of the installed espeak-ng.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs import containers, job_fields, voices
from farm.cli import EXIT_STATUS
from farm.errors import FarmError
from farm.job import NOT_YET, STAGES, JobRequest
from farm.metrics import ANSWER_SECONDS, METRICS, SECONDS, Metric
from farm.presets import PRESETS, QUALITIES
from farm.presets.preset import Limit
from farm.settings import BUCKET, GROUPS, PREFIX, UNPREFIXED, Settings

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `python -m docs.generate`: edit the descriptions in the code instead. -->"

SECOND_NAMES = {**UNPREFIXED, BUCKET: "store_url"}
"""The setting of each variable without the prefix."""

CHUNK_STAGES = "chunk_{k}_pre, chunk_{k}_sampling_{percent}, chunk_{k}_decode"


def settings_page() -> str:
    """Every setting, by section."""
    parts = [
        "# Settings",
        "Settings are read once, from the environment and from `farm.toml` in FARM_HOME, where"
        "\nFARM_LEASE_S is `lease_s = 60`. Variables go before the file. An unknown name is an"
        "\nerror that suggests the nearest one. Some settings are also those of a variable without "
        f"the\nprefix: FARM_ wins, and {BUCKET} counts only together with S3_ACCESS_KEY and "
        "S3_SECRET_KEY.\n`farm settings` shows each value and where it is from.",
    ]
    for group in GROUPS:
        rows = [_setting(name) for name in group.model_fields]
        parts += [f"## {group.title}", _table(("variable", "default", "meaning"), rows)]
    return _page(parts)


def metrics_page() -> str:
    """Every metric, and the values of its labels."""
    values = {label: known for metric in METRICS for label, known in metric.labels.items()}
    labels = [(label, ", ".join(known) or "known at run time") for label, known in values.items()]
    buckets = [
        f"Buckets of {name} end at these seconds: {', '.join(f'{bound:g}' for bound in bounds)}."
        for name, bounds in (("histograms", SECONDS), ("the gateway's", ANSWER_SECONDS))
    ]
    return _page(
        [
            "# Metrics",
            "How to scrape them: [Metrics](../operations/metrics.md).",
            _table(("name", "type", "source", "labels", "meaning"), map(_metric, METRICS)),
            "\n".join(buckets),
            "## Labels",
            _table(("label", "values"), labels),
        ]
    )


def errors_page() -> str:
    """Every error code."""
    rows = [(kind.code, _retries(kind), _summary(kind)) for kind in _error_classes()]
    return _page(
        [
            "# Errors",
            "`retryable` is the default of the code. An error object's own `retryable` may differ,"
            "\nfor instance for a download that was refused for good.",
            _table(("code", "retryable", "meaning"), rows),
        ]
    )


def job_page() -> str:
    """The fields of a request, the stages of a job and the exit statuses of the command line."""
    return _page(
        [
            "# Job contract",
            "How fields work together, and what a result looks like: [API](../api.md).",
            "## Request fields",
            _table(("field", "default", "meaning"), map(_field, JobRequest.model_fields)),
            "## Models",
            "What null stands for in each model, what a quality changes, and what a model refuses:",
            _table(("", *PRESETS), _models()),
            "## Progress stages",
            _table(("stage", "pct"), _stages()),
            "## Exit statuses",
            _table(("exit status", "meaning"), EXIT_STATUS.items()),
        ]
    )


def voices_page() -> str:
    """Every voice that needs no installation."""
    return _page(
        [
            "# Voices",
            "`farm voices` lists these, and [Kokoro's](../operations/kokoro.md) where they are"
            "\ninstalled; `farm voices --say TEXT --voice NAME -o FILE` speaks with one.",
            _table(("voice", "language"), voices.labels().items()),
            "## Variants",
            "A variant may follow each of them: `de+f3`.",
            voices.variants_text(),
        ]
    )


PAGES: dict[Path, Callable[[], str]] = {
    FOLDER / "settings.md": settings_page,
    FOLDER / "metrics.md": metrics_page,
    FOLDER / "errors.md": errors_page,
    FOLDER / "job.md": job_page,
    containers.COMPOSE: containers.compose_file,
    containers.EXAMPLE: containers.env_example,
    FOLDER / "voices.md": voices_page,
    voices.MODULE: voices.module,
    job_fields.MODULE: job_fields.module,
}


def main() -> int:
    """Writes the pages, or compares them; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the pages, write nothing")
    if parser.parse_args().check:
        stale = [path for path, page in PAGES.items() if not _is_current(path, page())]
        for path in stale:
            print(f"{path} is stale: run python -m docs.generate", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path, page in PAGES.items():
        path.write_text(page(), encoding="utf-8")
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _setting(name: str) -> tuple[str, str, str]:
    info = Settings.model_fields[name]
    seconds = [f"; also {variable}" for variable, field in SECOND_NAMES.items() if field == name]
    meaning = "".join([info.description or "", *seconds])
    return PREFIX + name.upper(), _default(info.default), meaning


def _metric(metric: Metric) -> tuple[str, ...]:
    return metric.name, metric.kind, metric.source, ", ".join(metric.labels), metric.help


def _default(value: Any) -> str:
    """A default as an environment variable would hold it."""
    if value in (None, ()):
        return "unset"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _error_classes() -> Iterator[type[FarmError]]:
    """The classes of farm.errors; a subclass elsewhere is internal."""
    yield from (
        kind for kind in FarmError.__subclasses__() if kind.__module__ == FarmError.__module__
    )
    yield FarmError  # E_INTERNAL, whatever no other class describes


def _retries(kind: type[FarmError]) -> str:
    if kind.retry_later:
        return "yes, later; the farm does not"
    if kind.retries == 0:
        return "no"
    return f"yes; the farm retries {'once' if kind.retries == 1 else f'{kind.retries} times'}"


def _summary(kind: type[FarmError]) -> str:
    """The first paragraph of a docstring, on one line."""
    if kind is FarmError:
        return "An error of no other kind."
    first, _, _ = (inspect.getdoc(kind) or "").partition("\n\n")
    return " ".join(first.split())


def _field(name: str) -> tuple[str, str, str]:
    info = JobRequest.model_fields[name]
    default = "required" if info.is_required() else json.dumps(info.default)
    refused = " *Refused for now.*" if name in NOT_YET else ""
    return name, default, f"{info.description}{refused}"


def _models() -> Iterator[tuple[str, ...]]:
    """Each default by model, the sizes and the limits."""
    models = PRESETS.values()
    yield ("size", *(", ".join(each.sizes) for each in models))
    for name in ("frame_num", "motion_frame", "sample_steps"):
        yield (name, *(str(getattr(each.defaults, name)) for each in models))
    for name in ("sample_text_guide_scale", "sample_audio_guide_scale"):
        yield (name, *(f"{getattr(each.defaults, name):g}" for each in models))
    yield ("sample_shift", *(", ".join(map(str, each.shifts.values())) for each in models))
    for quality in QUALITIES:
        yield (f"quality {quality}", *(_fields(each.fields_of(quality)) for each in models))
    yield ("cond_video", *("image or video" if each.takes_videos else "image" for each in models))
    yield ("allowed only", *("; ".join(map(_limit, each.limits.items())) or "-" for each in models))


def _fields(fields: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {json.dumps(value)}" for name, value in fields.items())


def _limit(item: tuple[str, Limit]) -> str:
    field, limit = item
    return f"{field}: {' or '.join(json.dumps(value) for value in limit.allowed)}"


def _stages() -> Iterator[tuple[str, str]]:
    first, last = STAGES["generation_started"], STAGES["muxing_started"]
    for stage, pct in STAGES.items():
        details = "; `details`: frames, seconds, cut_s, scenes" if stage == "embeddings_ok" else ""
        yield stage, f"{pct}{details}"
        if stage == "generation_started":
            details = "`details`: chunk, chunks, step, steps, eta_s"
            yield CHUNK_STAGES, f"{first} to {last}; {details}"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", r"\|")


def _page(parts: Sequence[str]) -> str:
    return "\n\n".join([NOTE, *parts]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
