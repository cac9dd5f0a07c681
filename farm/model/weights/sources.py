"""Where the published weights come from: repositories and files as data, and the note of what was taken."""

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
    """A repository of the hub, and those of its files that are needed."""

    name: str
    files: tuple[str, ...]
    revision: str = "main"
    """A branch is resolved to a commit when it is pulled. No commit is pinned here until one has been tried."""


WAN = Repository(
    "Wan-AI/Wan2.1-I2V-14B-480P",
    (
        "diffusion_pytorch_model.safetensors.index.json",
        *(
            f"diffusion_pytorch_model-{n:05}-of-{WAN_SHARDS:05}.safetensors"
            for n in range(1, WAN_SHARDS + 1)
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

WAV2VEC = Repository("TencentGameMate/chinese-wav2vec2-base", ("pytorch_model.bin",))


def repositories(preset: Preset, speakers: str) -> dict[str, Repository]:
    """What a preset is converted from: `wan`, `infinitetalk` (trained for `single` or `multi` speakers) and `wav2vec`.

    InvalidInput for a preset whose weights are shipped.
    """
    _check_published(preset)
    return {"wan": WAN, "infinitetalk": INFINITETALK[speakers], "wav2vec": WAV2VEC}


@dataclass(frozen=True)
class Source:
    """Published weights on this machine, and where they came from, if that is known."""

    path: Path
    """A folder; of InfiniteTalk its one file."""
    repository: str | None = None
    revision: str | None = None
    commit: str | None = None


def write_note(file: Path, sources: Mapping[str, Source]) -> None:
    """Keeps sources, as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {
        role: {name: str(value) for name, value in asdict(source).items() if value is not None}
        for role, source in sources.items()
    }
    file.write_text(json.dumps(known, indent=2) + "\n")


def read_note(file: Path) -> dict[str, Source]:
    """The sources that a note keeps; none if there is no note."""
    if not file.is_file():
        return {}
    try:
        known = json.loads(file.read_text())
        return {
            role: Source(**{**about, "path": Path(about["path"])}) for role, about in known.items()
        }
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise PipelineLoadFailed(f"{file} is not a note of sources: {error}") from error


def pull_note(root: Path, preset: Preset) -> Path:
    """Where `pull` notes, for `convert`, what it has pulled."""
    return root / f"{preset.name}.pulled.json"


def chosen_sources(preset: Preset, root: Path, paths: Mapping[str, Path]) -> dict[str, Source]:
    """What to convert: the given paths, and what was pulled for the rest.

    InvalidInput if one is neither, and for a preset whose weights are shipped.
    """
    _check_published(preset)
    sources = read_note(pull_note(root, preset)) | {
        role: Source(path) for role, path in paths.items()
    }
    for role, variable in (
        ("wan", "CKPT_DIR"),
        ("infinitetalk", "INFINITETALK_DIR"),
        ("wav2vec", "WAV2VEC_DIR"),
    ):
        if role not in sources:
            given = (
                f"name it by --{role} or {variable}, or run `farm weights pull {preset.name}` first"
            )
            raise InvalidInput(f"{role}: it was neither given nor pulled; {given}")
    return sources


def _check_published(preset: Preset) -> None:
    if preset.shipped:
        raise InvalidInput(
            f"preset: got {preset.name!r}; its weights come with the package, there is nothing to pull or convert"
        )
