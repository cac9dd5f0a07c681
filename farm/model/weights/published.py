"""Where weights are published: the hub's repositories, as data, for every preset.

A new preset, or another place to have one from, is an entry in `PUBLISHED`. Of files without a
SHA-256 here the first pull locks it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from farm.errors import InvalidInput
from farm.presets import Preset

OFFICIAL = "official"
"""The origin that is pulled from by default: the files of the models' authors."""


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
    index: str | None = None
    """A file that names further needed files, the shards beside it."""


Needs = Mapping[str, Repository]
"""What a conversion needs, by role: `wan` is the whole of Wan 2.1, or the transformer alone if the
other parts have roles of their own.
"""


@dataclass(frozen=True)
class Published:
    """The weights of a preset, as they are published."""

    converted_bytes: int
    """The size of the folder that is made of them."""
    origins: Mapping[str, Mapping[str, Needs]]
    """By origin, and by the number of speakers that they were trained for."""


TOKENIZER: Mapping[str, str | None] = {
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
}

ENCODERS: Mapping[str, str | None] = {
    "models_t5_umt5-xxl-enc-bf16.pth": (
        "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d"
    ),
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth": (
        "628c9998b613391f193eb67ff68da9667d75f492911e4eb3decf23460a158c38"
    ),
    "Wan2.1_VAE.pth": "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981",
}
"""Text encoder, image encoder and autoencoder of Wan 2.1."""

INDEX = "diffusion_pytorch_model.safetensors.index.json"

WAN = Repository(
    "Wan-AI/Wan2.1-I2V-14B-480P",
    "6b73f84e66371cdfe870c72acd6826e1d61cf279",
    {**ENCODERS, **TOKENIZER},
    INDEX,
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

# Its text encoder, image encoder and autoencoder have the names of Wan's; whether also their
# content, has not been seen.
FLASHTALK = Repository(
    "Soul-AILab/SoulX-FlashTalk-14B",
    "f3fda6499a6022862cadd39fc41ae63b64706e1b",
    dict.fromkeys((*ENCODERS, *TOKENIZER)),
    INDEX,
)


def _comfy(file: str, sha256: str) -> Repository:
    return Repository(
        "Comfy-Org/Wan_2.1_ComfyUI_repackaged",
        "123acf1cc74bccbb9bfff8ac1ee72edc08c2341d",
        {f"split_files/{file}": sha256},
    )


def _kijai_fp8(file: str, sha256: str | None = None) -> Repository:
    return Repository(
        "Kijai/WanVideo_comfy_fp8_scaled",
        "72cfd0d6f2269b14f94c38bfee2744e0ed172c38",
        {file: sha256},
    )


def _kijai(file: str) -> Repository:
    return Repository(
        "Kijai/WanVideo_comfy", "8260d429d19fd7a72304cad059160b95d843913f", {file: None}
    )


COMFYUI: Needs = {
    "wan": _kijai_fp8(
        "I2V/Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors",
        "2ff922282cd84589702e6e8c26e083d1160bfc2b217dd44e1ae2688441dc495d",
    ),
    "text_encoder": _comfy(
        "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        "c3355d30191f1f066b26d93fba017ae9809dce6c627dda5f6a66eaa651204f68",
    ),
    "image_encoder": _comfy(
        "clip_vision/clip_vision_h.safetensors",
        "64a7ef761bfccbadbaa3da77366aac4185a6c58fa5de5f589b42a65bcc21f161",
    ),
    "vae": _comfy(
        "vae/wan_2.1_vae.safetensors",
        "2fc39d31359a4b0a64f55876d8ff7fa8d780956ae2cb13463b0223e15148976b",
    ),
    "tokenizer": Repository(WAN.name, WAN.commit, TOKENIZER),
    "wav2vec": WAV2VEC,
}
"""Repackaged for ComfyUI: one file a part, the large ones in eight bits. Without InfiniteTalk."""

COMFYUI_INFINITETALK = {
    "comfyui": {
        # The single one is spelled so.
        "single": _kijai("InfiniteTalk/Wan2_1-InfiniTetalk-Single_fp16.safetensors"),
        "multi": _kijai("InfiniteTalk/Wan2_1-InfiniteTalk-Multi_fp16.safetensors"),
    },
    "comfyui-fp8": {
        speakers.lower(): _kijai_fp8(
            f"InfiniteTalk/Wan2_1-InfiniteTalk-{speakers}_fp8_e4m3fn_scaled_KJ.safetensors"
        )
        for speakers in ("Single", "Multi")
    },
}

CONVERTED_BYTES = 51_700_000_000
"""Of 14 billion parameters in 16 bits, four billion for the sound, and the encoders."""

PUBLISHED = {
    "infinitetalk-480": Published(
        CONVERTED_BYTES,
        {
            OFFICIAL: {
                speakers: {"wan": WAN, "infinitetalk": repository, "wav2vec": WAV2VEC}
                for speakers, repository in INFINITETALK.items()
            },
            **{
                origin: {
                    speakers: {**COMFYUI, "infinitetalk": repository}
                    for speakers, repository in by_speakers.items()
                }
                for origin, by_speakers in COMFYUI_INFINITETALK.items()
            },
        },
    ),
    "flashtalk": Published(
        CONVERTED_BYTES, {OFFICIAL: {"single": {"wan": FLASHTALK, "wav2vec": WAV2VEC}}}
    ),
}


def published(preset: Preset) -> Published:
    """Where a preset's weights are; InvalidInput if there is nothing to pull."""
    check_not_shipped(preset)
    _check("preset", preset.name, PUBLISHED)
    return PUBLISHED[preset.name]


def official(preset: Preset) -> Needs:
    """The repositories of the official files for one speaker; of any other model InfiniteTalk's."""
    known = PUBLISHED.get(preset.name, PUBLISHED["infinitetalk-480"])
    return known.origins[OFFICIAL]["single"]


def check_not_shipped(preset: Preset) -> None:
    """Refuses a preset whose weights come with the package."""
    if preset.shipped:
        raise InvalidInput(
            f"preset: got {preset.name!r}; its weights come with the package, "
            "there is nothing to pull or convert"
        )


def needed_repositories(
    preset: Preset, *, origin: str = OFFICIAL, speakers: str = "single", only: Collection[str] = ()
) -> Needs:
    """The repositories that a preset is converted from, by role; of some roles only, if named.

    Raises InvalidInput, with what is allowed, for what is not published.
    """
    origins = published(preset).origins
    _check("from", origin, origins)
    _check("speakers", speakers, origins[origin])
    needs = origins[origin][speakers]
    for role in only:
        _check("only", role, needs)
    return {role: each for role, each in needs.items() if not only or role in only}


def _check(field: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise InvalidInput(f"{field}: got {value!r}; allowed: {', '.join(allowed)}")
