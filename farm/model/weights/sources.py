"""Where the published weights come from: repositories as data, and the record of a pull."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.presets import Preset

WAN_SHARDS = 7


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, and what is needed of it."""

    name: str
    commit: str
    """What is pulled unless another revision is asked for."""
    files: Mapping[str, str | None]
    """The needed files. Of some the SHA-256 at this commit is known: several users published it,
    independently of each other.
    """


SHARDS = tuple(
    f"diffusion_pytorch_model-{number:05}-of-{WAN_SHARDS:05}.safetensors"
    for number in range(1, WAN_SHARDS + 1)
)

WAN = Repository(
    "Wan-AI/Wan2.1-I2V-14B-480P",
    "6b73f84e66371cdfe870c72acd6826e1d61cf279",
    {
        "diffusion_pytorch_model.safetensors.index.json": None,
        **dict.fromkeys(SHARDS),
        "models_t5_umt5-xxl-enc-bf16.pth": (
            "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d"
        ),
        "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth": (
            "628c9998b613391f193eb67ff68da9667d75f492911e4eb3decf23460a158c38"
        ),
        "Wan2.1_VAE.pth": "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981",
        "google/umt5-xxl/special_tokens_map.json": (
            "7b8a9f5040adb67b5805abdfd42c1f8d0f3d0e711f10726580eb3789cd0ad61d"
        ),
        "google/umt5-xxl/spiece.model": (
            "e3909a67b780650b35cf529ac782ad2b6b26e6d1f849d3fbb6a872905f452458"
        ),
        "google/umt5-xxl/tokenizer.json": (
            "6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b"
        ),
        "google/umt5-xxl/tokenizer_config.json": (
            "ed9a3a8b0faa71a70a32847e0435fe036e6e112d4df4edb7bb48a921e344dc05"
        ),
    },
)

INFINITETALK = {
    speakers: Repository(
        "MeiGen-AI/InfiniteTalk",
        "d59847ebdacf19245bfca3fb23311c0cada8378a",
        {f"{speakers}/infinitetalk.safetensors": None},
    )
    for speakers in ("single", "multi")
}

WAV2VEC = Repository(
    "TencentGameMate/chinese-wav2vec2-base",
    "3991242c806928916fff4a8c0e4f76acf661b743",
    {
        "preprocessor_config.json": (
            "c1707926644954affc391ab09ccfaf470ccd80af218d11350991090711441c09"
        ),
        "pytorch_model.bin": "be2da40c9e7ae26bfc904a3ed79ebb9e8f060bec6dba85d6a6ae86114bc38901",
    },
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
