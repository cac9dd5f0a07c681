"""The files that people have, through `convert`: taken for what they are, or refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from farm.errors import PipelineLoadFailed
from farm.model.weights.check import check
from farm.model.weights.convert import convert
from farm.model.weights.sources import Source, read_sources
from farm.presets import INFINITETALK
from tests.support.tiny_model import TINY_PRESET
from tests.unit.model import community, official
from tests.unit.model.community import SAVES, Save, rounded_to, scaled
from tests.unit.model.conftest import quiet

Tensors = dict[str, Tensor]

PRESET = replace(TINY_PRESET, dtypes=INFINITETALK.dtypes)
"""The tiny model in the dtypes of the real one."""


@pytest.fixture(scope="module")
def checkpoint(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with the transformer's weights as they are published: in bfloat16."""
    folder = tmp_path_factory.mktemp("checkpoint") / weights.name
    shutil.copytree(weights, folder)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: each.bfloat16().float() for name, each in load_file(file).items()}, file)
    return folder


@pytest.fixture(scope="module")
def published(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    return official.publish(checkpoint, tmp_path_factory.mktemp("published"), TINY_PRESET)


@pytest.fixture(scope="module")
def plain(published: dict[str, Source], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the official files are converted to."""
    return convert(PRESET, tmp_path_factory.mktemp("plain"), published, report=quiet)


def error(part: str, folder: Path, plain: Path) -> float:
    """Of a converted part: the norm of the difference over the norm; 0.0 if not a bit differs."""
    made, expected = (official.load_part(each, part) for each in (folder, plain))
    assert {name: each.dtype for name, each in made.items()} == {
        name: each.dtype for name, each in expected.items()
    }
    square = sum(
        float((made[name].double() - expected[name].double()).norm()) ** 2 for name in made
    )
    return (square / sum(float(each.double().norm()) ** 2 for each in expected.values())) ** 0.5


ERRORS = {
    "safetensors of bfloat16": (0, 0),
    "safetensors of float16": (0, 1e-6),  # the smallest are none of its normal numbers
    "safetensors of float32": (0, 0),
    "pickle of bfloat16": (0, 0),
    "GGUF F16": (0, 1e-6),
    "GGUF BF16": (0, 0),
    "GGUF Q8_0": (0.001, 0.008),
    "GGUF Q5_1": (0.01, 0.05),
    "GGUF Q4_0": (0.02, 0.12),
    "fp8": (0.01, 0.06),
    "fp8 with scale_weight": (0.01, 0.04),
    "fp8 with weight_scale by row": (0.01, 0.04),
    "quanto int8": (0.001, 0.012),
    "quanto fp8": (0.01, 0.04),
}
"""Bounds of the error of the whole transformer, some of which is never rounded."""


@pytest.mark.parametrize("kind", SAVES)
def test_a_whole_transformer_in_any_container_is_the_published_one_but_for_its_rounding(
    kind: str, checkpoint: Path, published: dict[str, Source], plain: Path, tmp_path: Path
) -> None:
    # given the whole transformer in one file, which needs neither Wan's shards nor InfiniteTalk's
    file = SAVES[kind](community.transformer(checkpoint), tmp_path / "download")
    wan = shutil.copytree(published["wan"].path, tmp_path / "wan")
    for shard in wan.glob("diffusion_pytorch_model*"):
        shard.unlink()
    sources = {"transformer": Source(file), "wan": Source(wan), "wav2vec": published["wav2vec"]}
    # when it is converted
    folder = convert(PRESET, tmp_path / "weights", sources, report=quiet)
    # then it fits, differs as much as it was rounded, and the record says by how much
    check(folder, PRESET)
    least, most = ERRORS[kind]
    found = error("transformer", folder, plain)
    assert least <= found <= most
    assert (found > 0.001) == bool(read_sources(folder / "sources.json")["transformer"].rounding)


ROWS: dict[str, tuple[str, Callable[[Path], Tensors], Save]] = {
    "Wan2_1-InfiniTetalk-Single_fp16": (
        "infinitetalk",
        community.audio_layers,
        rounded_to(torch.float16),
    ),
    "Wan2_1-InfiniteTalk_Single_Q8.gguf": (
        "infinitetalk",
        community.audio_layers,
        SAVES["GGUF Q8_0"],
    ),
    "Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ": (
        "infinitetalk",
        community.audio_layers,
        scaled("scale_weight"),
    ),
    "wan2.1_i2v_480p_14B_bf16": ("transformer", community.base, rounded_to(torch.bfloat16)),
    "Wan2_1-I2V-14B-480P_fp8_e4m3fn": ("transformer", community.base, SAVES["fp8"]),
    "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ": (
        "transformer",
        community.base,
        scaled("scale_weight"),
    ),
    "wan2.1-i2v-14b-480p-Q8_0.gguf": ("transformer", community.base, SAVES["GGUF Q8_0"]),
    "umt5-xxl-enc-bf16": ("text_encoder", community.text_encoder, rounded_to(torch.bfloat16)),
    "t5_fp8 of quanto": ("text_encoder", community.text_encoder, SAVES["quanto fp8"]),
    "umt5-xxl-encoder-Q8_0.gguf": (
        "text_encoder",
        community.llama_text_encoder,
        community.llama_gguf,
    ),
    "umt5_xxl_fp16": ("text_encoder", community.comfy_text_encoder, rounded_to(torch.float16)),
    "umt5_xxl_fp8_e4m3fn_scaled": (
        "text_encoder",
        community.comfy_text_encoder,
        scaled("scale_weight"),
    ),
    "wan_2.1_vae": ("vae", community.autoencoder, rounded_to(torch.float32)),
    "Wan2_1_VAE_bf16": ("vae", community.autoencoder, rounded_to(torch.bfloat16)),
    "open-clip-xlm-roberta-large-vit-huge-14_visual_fp16": (
        "image_encoder",
        community.image_encoder,
        rounded_to(torch.float16),
    ),
    "clip_vision_h": ("image_encoder", community.clip_vision, rounded_to(torch.float16)),
    "wav2vec2-chinese-base_fp16": (
        "audio_encoder",
        community.audio_encoder,
        rounded_to(torch.float16),
    ),
}
"""Files that people have, without their endings: the option, the tensors, the container."""

WIDEST = {
    "transformer": 0.05,
    "infinitetalk": 0.05,
    "text_encoder": 0.05,
    "vae": 0.004,
    "image_encoder": 0.001,
    "audio_encoder": 0.001,
}


@pytest.mark.parametrize("row", ROWS)
def test_the_files_of_the_community_are_taken_as_they_are(
    row: str, checkpoint: Path, published: dict[str, Source], plain: Path, tmp_path: Path
) -> None:
    role, tensors, save = ROWS[row]
    file = save(tensors(checkpoint), tmp_path / "download")
    shutil.copy(checkpoint / "audio_encoder" / "preprocessor_config.json", tmp_path)
    lines: list[str] = []
    folder = convert(
        PRESET,
        tmp_path / "weights",
        {**published, role: Source(file)},
        report=quiet,
        print_line=lines.append,
    )
    assert any(line.startswith(f"{file}: ") for line in lines)
    part = "transformer" if role == "infinitetalk" else role
    rounded = any(word in row for word in ("fp8", "Q8", "VAE_bf16"))
    assert 0.001 * rounded <= error(part, folder, plain) <= WIDEST[role]
    for other in set(PRESET.parts) - {part}:
        assert error(other, folder, plain) == 0


def comfy_models(checkpoint: Path, folder: Path) -> Path:
    """ComfyUI's models: one file a part in folders by kind, beside those of other models."""
    for kind in ("diffusion_models", "text_encoders", "clip_vision", "vae", "wav2vec2", "loras"):
        (folder / kind).mkdir(parents=True)
    diffusion = folder / "diffusion_models"
    SAVES["GGUF Q8_0"](community.base(checkpoint), diffusion / "wan2.1-i2v-14b-480p-Q8_0.gguf")
    SAVES["GGUF Q8_0"](community.audio_layers(checkpoint), diffusion / "InfiniteTalk_Q8.gguf")
    scaled("scale_weight")(
        community.comfy_text_encoder(checkpoint),
        folder / "text_encoders" / "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    )
    save_file(
        community.clip_vision(checkpoint), folder / "clip_vision" / "clip_vision_h.safetensors"
    )
    save_file(community.autoencoder(checkpoint), folder / "vae" / "wan_2.1_vae.safetensors")
    save_file(community.audio_encoder(checkpoint), folder / "wav2vec2" / "chinese.safetensors")
    shutil.copy(checkpoint / "audio_encoder" / "preprocessor_config.json", folder / "wav2vec2")
    # what else lies there
    text_to_video = community.base(checkpoint)
    text_to_video["patch_embedding.weight"] = torch.zeros(128, 16, 1, 2, 2)
    video = {name: each for name, each in text_to_video.items() if "img" not in name}
    SAVES["GGUF Q8_0"](video, diffusion / "wan2.2_t2v_high_noise_14B_Q8_0.gguf")
    flux = {"shared.weight": torch.zeros(100, 64)}
    layer = {"encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(64, 64)}
    save_file(flux | layer, folder / "text_encoders" / "t5xxl_fp16.safetensors")
    save_file(
        {"decoder.up.0.block.0.norm1.weight": torch.zeros(4)}, folder / "vae" / "ae.safetensors"
    )
    lora = {"diffusion_model.blocks.0.self_attn.q.lora_down.weight": torch.zeros(4, 128)}
    save_file(lora, folder / "loras" / "lightx2v.safetensors")
    (folder / "vae" / "put_vae_here").touch()
    (folder / "configs.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    return folder


def test_the_parts_are_found_among_comfyuis_models(
    checkpoint: Path, plain: Path, tmp_path: Path
) -> None:
    models = comfy_models(checkpoint, tmp_path / "models")
    sources = {"folder": Source(models), "tokenizer": Source(checkpoint / "tokenizer")}
    folder = convert(PRESET, tmp_path / "weights", sources, report=quiet)
    check(folder, PRESET)
    assert all(error(part, folder, plain) < 0.05 for part in PRESET.parts)
    taken = read_sources(folder / "sources.json")
    assert taken["vae"].path == models / "vae" / "wan_2.1_vae.safetensors"
    assert str(taken["transformer"].rounding).startswith("Q8_0, about ")
    assert str(taken["text_encoder"].rounding).startswith("fp8 e4m3 with scales, about ")
    assert [role for role, source in taken.items() if source.rounding] == [
        "transformer",
        "infinitetalk",
        "text_encoder",
    ]


def test_every_wrong_or_missing_part_is_told_at_once(checkpoint: Path, tmp_path: Path) -> None:
    # given ComfyUI's models without those of this model, the text encoder of which is damaged
    models = comfy_models(checkpoint, tmp_path / "models")
    for name in ("wan2.1-i2v-14b-480p-Q8_0.gguf", "InfiniteTalk_Q8.gguf"):
        (models / "diffusion_models" / name).unlink()
    encoder = models / "text_encoders" / "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
    encoder.write_bytes(encoder.read_bytes()[:500])
    (models / "vae" / "wan_2.1_vae.safetensors").unlink()
    (models / "wav2vec2" / "preprocessor_config.json").unlink()
    # when they are converted
    with pytest.raises(PipelineLoadFailed) as failure:
        convert(PRESET, tmp_path / "weights", {"folder": Source(models)}, report=quiet)
    # then each is named, with what was there instead and where the right one is
    message = failure.value.message
    for part in (
        "wan2.2_t2v_high_noise_14B_Q8_0.gguf is the wrong model: "
        "Wan 2.1 or 2.2 T2V of width 128 (GGUF of Q8_0",
        "needed: Wan 2.1 I2V (480P or 720P) of width 128 with the audio layers",
        "published: Wan-AI/Wan2.1-I2V-14B-480P and MeiGen-AI/InfiniteTalk",
        f"{encoder} cannot be read",
        "t5xxl_fp16.safetensors is the wrong model",
        "T5 of 100 tokens and width 64",
        "vae: not found in",
        "published: Wan2.1_VAE.pth of Wan-AI/Wan2.1-I2V-14B-480P",
        "preprocessor_config.json is missing",
        "tokenizer: not found in",
    ):
        assert part in message
    assert "image_encoder" not in message
    assert not (tmp_path / "weights").exists()


def test_of_two_files_that_fit_none_is_taken_until_one_is_named(
    checkpoint: Path, published: dict[str, Source], tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("single", "multi"):
        save_file(community.audio_layers(checkpoint), folder / f"{name}.safetensors")
    sources = {role: each for role, each in published.items() if role != "infinitetalk"}
    sources["folder"] = Source(folder)
    with pytest.raises(PipelineLoadFailed, match=r"infinitetalk: 2 fit, .*name one with --infi"):
        convert(PRESET, tmp_path / "weights", sources, report=quiet)
    sources["infinitetalk"] = Source(folder / "multi.safetensors")
    check(convert(PRESET, tmp_path / "weights", sources, report=quiet), PRESET)


def test_the_first_place_that_has_a_part_counts(
    checkpoint: Path, published: dict[str, Source], plain: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    save_file(
        {name: each + 1 for name, each in community.autoencoder(checkpoint).items()}, own / "vae"
    )
    first, last = ({"own": Source(own), **published}, {**published, "own": Source(own)})
    changed = convert(PRESET, tmp_path / "first", first, report=quiet)
    same = convert(PRESET, tmp_path / "last", last, report=quiet)
    assert error("vae", changed, plain) > 0.1
    assert error("vae", same, plain) == 0


def test_a_wrong_model_is_refused_where_it_is_named(
    checkpoint: Path, published: dict[str, Source], tmp_path: Path
) -> None:
    file = tmp_path / "named"
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(3, 3)}, file)
    named = {role: Source(file) for role in ("transformer", "vae", "audio_encoder")}
    with pytest.raises(PipelineLoadFailed) as failure:
        convert(PRESET, tmp_path / "weights", {**published, **named}, report=quiet)
    for role in named:
        assert f"{role}: not found in {file}; {file} cannot be used: " in failure.value.message
    assert "a transformer of Flux" in failure.value.message


def test_flashtalks_folder_of_shards_is_a_whole_transformer(
    checkpoint: Path, published: dict[str, Source], plain: Path, tmp_path: Path
) -> None:
    # given one folder as FlashTalk is published: all original names in shards of bfloat16
    flashtalk = shutil.copytree(published["wan"].path, tmp_path / "flashtalk")
    for shard in flashtalk.glob("diffusion_pytorch_model*"):
        shard.unlink()
    whole = {name: each.bfloat16() for name, each in community.transformer(checkpoint).items()}
    official.write_shards(flashtalk, whole, count=4)
    # when it is converted with no other transformer
    sources = {"folder": Source(flashtalk), "wav2vec": published["wav2vec"]}
    folder = convert(PRESET, tmp_path / "weights", sources, report=quiet)
    # then nothing is missing
    assert error("transformer", folder, plain) == 0
    assert read_sources(folder / "sources.json")["transformer"].path == flashtalk
    assert "infinitetalk" not in read_sources(folder / "sources.json")


def test_layers_of_another_whole_transformer_are_taken_only_where_they_are_named(
    checkpoint: Path, published: dict[str, Source], tmp_path: Path
) -> None:
    # given a transformer that is named, and a whole one beside it
    base, folder = tmp_path / "base", tmp_path / "folder"
    save_file(community.base(checkpoint), base)
    folder.mkdir()
    save_file(community.transformer(checkpoint), folder / "whole")
    sources = {role: each for role, each in published.items() if role != "infinitetalk"}
    sources |= {"transformer": Source(base), "folder": Source(folder)}
    # when they are converted, then its layers are taken if it is named for them
    with pytest.raises(PipelineLoadFailed, match="infinitetalk: not found"):
        convert(PRESET, tmp_path / "weights", sources, report=quiet)
    sources["infinitetalk"] = Source(folder / "whole")
    check(convert(PRESET, tmp_path / "weights", sources, report=quiet), PRESET)


def test_shards_without_an_index_belong_together_by_their_numbers(
    published: dict[str, Source], plain: Path, tmp_path: Path
) -> None:
    wan = shutil.copytree(published["wan"].path, tmp_path / "wan")
    (wan / "diffusion_pytorch_model.safetensors.index.json").unlink()
    sources = {**published, "wan": Source(wan)}
    folder = convert(PRESET, tmp_path / "weights", sources, report=quiet)
    assert error("transformer", folder, plain) == 0


def test_an_index_may_be_named_for_its_shards(
    published: dict[str, Source], plain: Path, tmp_path: Path
) -> None:
    index = published["wan"].path / "diffusion_pytorch_model.safetensors.index.json"
    sources = {**published, "transformer": Source(index)}
    folder = convert(PRESET, tmp_path / "weights", sources, report=quiet)
    assert error("transformer", folder, plain) == 0


def test_whole_numbers_are_never_taken_for_weights(
    checkpoint: Path, published: dict[str, Source], tmp_path: Path
) -> None:
    tensors = community.base(checkpoint)
    tensors["blocks.0.ffn.0.weight"] = tensors["blocks.0.ffn.0.weight"].to(torch.int8)
    save_file(tensors, tmp_path / "int8")
    sources = {**published, "transformer": Source(tmp_path / "int8")}
    with pytest.raises(PipelineLoadFailed, match=r"whole numbers.*blocks.0.ffn.0.weight in int8"):
        convert(PRESET, tmp_path / "weights", sources, report=quiet)


def test_a_converted_folder_is_a_source_itself(plain: Path, tmp_path: Path) -> None:
    folder = convert(PRESET, tmp_path / "weights", {"folder": Source(plain)}, report=quiet)
    assert all(error(part, folder, plain) == 0 for part in PRESET.parts)


@pytest.mark.parametrize("tokens", [300, 259 - 1001])
def test_a_tokenizer_of_another_model_is_refused(
    tokens: int, published: dict[str, Source], tmp_path: Path
) -> None:
    record = {"model": {"vocab": {str(number): number for number in range(max(tokens, 0))}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    rows = TINY_PRESET.parts["text_encoder"]["vocab_size"] + (1000 if tokens < 0 else 0)
    parts = {**PRESET.parts, "text_encoder": {**PRESET.parts["text_encoder"], "vocab_size": rows}}
    sources = {**published, "tokenizer": Source(tmp_path)}
    with pytest.raises(PipelineLoadFailed, match=rf"has {max(tokens, 0)} tokens, the text encoder"):
        convert(replace(PRESET, parts=parts), tmp_path / "weights", sources, report=quiet)


@pytest.mark.parametrize("content", ["[]", "{", '{"model": {"vocab": 3}}', "[" * 100_000])
def test_a_damaged_tokenizer_is_refused(
    content: str, published: dict[str, Source], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    sources = {**published, "tokenizer": Source(tmp_path)}
    with pytest.raises(PipelineLoadFailed, match=r"tokenizer\.json is not a tokenizer"):
        convert(PRESET, tmp_path / "weights", sources, report=quiet)


def test_only_the_files_of_a_tokenizer_are_copied(
    checkpoint: Path, published: dict[str, Source], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint / "tokenizer", tmp_path / "tokenizer")
    (folder / "pytorch_model.bin").write_bytes(bytes(1000))
    sources = {**published, "tokenizer": Source(folder)}
    made = convert(PRESET, tmp_path / "weights", sources, report=quiet)
    copied = {path.name for path in (made / "tokenizer").iterdir()}
    assert copied == {path.name for path in (checkpoint / "tokenizer").iterdir()}


def test_a_folder_that_leads_into_itself_is_searched_once(
    checkpoint: Path, published: dict[str, Source], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    save_file(community.autoencoder(checkpoint), folder / "vae")
    (folder / "again").symlink_to(folder)
    (folder / "same").symlink_to(folder / "vae")
    sources = {"folder": Source(folder), **published}
    taken = convert(PRESET, tmp_path / "weights", sources, report=quiet)
    assert read_sources(taken / "sources.json")["vae"].path in (folder / "vae", folder / "same")
