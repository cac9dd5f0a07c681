"""Where the published weights come from: repositories as data, and the record of a pull."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.model.presets import Preset

WAN_SHARDS = 7

TOKENIZER = tuple(
    f"google/umt5-xxl/{name}"
    for name in (
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer.json",
        "tokenizer_config.json",
    )
)


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, and the files that are needed of it."""

    name: str
    files: tuple[str, ...]
    revision: str = "main"
    """A branch is resolved to a commit when it is pulled. No commit is pinned until
    one has been tried.
    """


WAN = Repository(
    "Wan-AI/Wan2.1-I2V-14B-480P",
    (
        "diffusion_pytorch_model.safetensors.index.json",
        *(
            f"diffusion_pytorch_model-{number:05}-of-{WAN_SHARDS:05}.safetensors"
            for number in range(1, WAN_SHARDS + 1)
        ),
        "models_t5_umt5-xxl-enc-bf16.pth",
        "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
        "Wan2.1_VAE.pth",
        *TOKENIZER,
    ),
)

INFINITETALK = {
    speakers: Repository("MeiGen-AI/InfiniteTalk", (f"{speakers}/infinitetalk.safetensors",))
    for speakers in ("single", "multi")
}

WAV2VEC = Repository(
    "TencentGameMate/chinese-wav2vec2-base",
    ("preprocessor_config.json", "pytorch_model.bin"),
)


def repositories(preset: Preset, speakers: str) -> dict[str, Repository]:
    """The repositories that a preset is converted from, by role.

    The roles are `wan`, `infinitetalk` (trained for `single` or `multi` speakers) and `wav2vec`.
    Raises InvalidInput for a preset whose weights are shipped.
    """
    _check_not_shipped(preset)
    return {
        "wan": WAN,
        "infinitetalk": INFINITETALK[speakers],
        "wav2vec": WAV2VEC,
    }


@dataclass(frozen=True)
class Source:
    """Published weights on this machine, and where they came from if that is known."""

    path: Path
    """A folder; of InfiniteTalk its one file."""
    repository: str | None = None
    revision: str | None = None
    commit: str | None = None


def write_sources(file: Path, sources: Mapping[str, Source]) -> None:
    """Writes sources as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {}
    for role, source in sources.items():
        fields = asdict(source).items()
        record[role] = {name: str(value) for name, value in fields if value is not None}
    file.write_text(json.dumps(record, indent=2) + "\n")


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
    """What to convert: the given paths and, for the rest, what was pulled.

    InvalidInput if a source is neither, and for a preset whose weights are shipped.
    """
    _check_not_shipped(preset)
    sources = read_sources(pull_record(root, preset))
    sources |= {role: Source(path) for role, path in paths.items()}
    variables = {
        "wan": "CKPT_DIR",
        "infinitetalk": "INFINITETALK_DIR",
        "wav2vec": "WAV2VEC_DIR",
    }
    for role, variable in variables.items():
        if role not in sources:
            raise InvalidInput(
                f"{role}: neither given nor pulled; pass --{role} or set {variable}, "
                f"or run `farm weights pull {preset.name}` first"
            )
    return sources


def _check_not_shipped(preset: Preset) -> None:
    if preset.shipped:
        raise InvalidInput(
            f"preset: got {preset.name!r}; its weights come with the package, "
            "there is nothing to pull or convert"
        )
