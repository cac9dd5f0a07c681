"""Published weights on this machine, where they came from, and the record of a pull."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.model.weights.folder import write_atomically
from farm.model.weights.published import check_not_shipped
from farm.presets import Preset


@dataclass(frozen=True)
class Source:
    """Published weights on this machine, and where they came from if that is known."""

    path: Path
    """A folder, or a file."""
    repository: str | None = None
    revision: str | None = None
    commit: str | None = None
    rounding: str | None = None
    """How its weights are rounded and what that costs, once they are converted."""


def write_sources(file: Path, sources: Mapping[str, Source]) -> None:
    """Writes sources as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {}
    for role, source in sources.items():
        fields = asdict(source).items()
        record[role] = {name: str(value) for name, value in fields if value is not None}
    write_atomically(file, json.dumps(record, indent=2) + "\n")


def read_sources(file: Path) -> dict[str, Source]:
    """The sources in a file of `write_sources`; none if there is no file."""
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_text())
        return {
            role: Source(**{**fields, "path": Path(fields["path"])})
            for role, fields in record.items()
        }
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise PipelineLoadFailed(f"{file} is not a record of sources: {error}") from error


def pull_record(root: Path, preset: Preset) -> Path:
    """The file in which `pull` records, for `convert`, what it has pulled."""
    return root / f"{preset.name}.pulled.json"


def chosen_sources(preset: Preset, root: Path, paths: Mapping[str, Path]) -> dict[str, Source]:
    """What to convert: the given paths and, for what they lack, what was pulled.

    InvalidInput if there is neither, and for a preset whose weights are shipped.
    """
    check_not_shipped(preset)
    sources = {role: Source(path) for role, path in paths.items()}
    pulled = read_sources(pull_record(root, preset))
    sources |= {f"pulled {role}": source for role, source in pulled.items()}
    if not sources:
        raise InvalidInput(
            "nothing to convert is given or pulled; pass --folder or the option of a part, or run "
            f"`farm weights pull {preset.name}` first"
        )
    return sources
