from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.model.audio import load_audio_encoder
from farm.model.checkpoints import load_part
from farm.model.denoise import Sampling
from farm.model.pipeline import load_pipeline
from farm.model.vae import joined
from farm.model.weights.check import check
from farm.model.weights.convert import convert
from farm.model.weights.sources import Source, read_sources
from farm.plan import Plan, audio_rows
from farm.presets import INFINITETALK, Preset
from tests.support.tiny_model import TINY_PRESET
from tests.unit.model import official
from tests.unit.model.conftest import quiet

Sources = dict[str, Source]


@pytest.fixture(scope="module")
def published(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return official.publish(weights, tmp_path_factory.mktemp("published"), TINY_PRESET)


@pytest.fixture(scope="module")
def converted(published: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(TINY_PRESET, tmp_path_factory.mktemp("converted"), published, report=quiet)


@pytest.fixture
def damaged(published: Sources, tmp_path: Path) -> Sources:
    """A copy of the published weights that a test may damage."""
    shutil.copytree(published["wan"].path.parent, tmp_path / "published")
    base = published["wan"].path.parent
    return {
        role: Source(tmp_path / "published" / source.path.relative_to(base))
        for role, source in published.items()
    }


@torch.inference_mode()
def film(
    preset: Preset,
    folder: Path,
    plan: Plan,
    sampling: Sampling,
    picture: np.ndarray,
    voice: Tensor,
) -> Tensor:
    """One chunk of video, by the weights of a folder alone."""
    pipeline = load_pipeline(folder, preset, "cpu")
    chunk = plan.chunk(0)
    frames, _ = pipeline.chunk(
        chunk,
        condition=pipeline.condition(picture, size="infinitetalk-480", frame_num=9),
        text=pipeline.encode_text("a man talks"),
        negative_text=pipeline.encode_text("blurred"),
        audio=voice[:, audio_rows(chunk, voice.shape[1])],
        tail=None,
        sampling=sampling,
        report=quiet,
        show=joined,
    )
    return frames


@pytest.mark.parametrize("layout", [official.publish, official.publish_diffusers])
def test_published_weights_give_the_same_video_as_the_checkpoint_bit_for_bit(
    layout: Callable[[Path, Path, Preset], Sources],
    weights: Path,
    plan: Plan,
    sampling: Sampling,
    picture: np.ndarray,
    voice: Tensor,
    tmp_path: Path,
) -> None:
    # given the checkpoint in a published layout
    sources = layout(weights, tmp_path / "published", TINY_PRESET)
    # when they are converted
    folder = convert(TINY_PRESET, tmp_path / "weights", sources, report=quiet)
    # then they are found good, and the video is the same
    check(folder, TINY_PRESET)
    expected, found = (
        film(TINY_PRESET, each, plan, sampling, picture, voice) for each in (weights, folder)
    )
    assert torch.equal(expected, found)


def test_a_converted_audio_encoder_gives_the_same_embedding(weights: Path, converted: Path) -> None:
    speech = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    assert torch.equal(
        load_audio_encoder(weights).embed(speech),
        load_audio_encoder(converted).embed(speech),
    )


@pytest.mark.parametrize("dtypes", [{}, INFINITETALK.dtypes], ids=["float32", "half"])
def test_shards_hold_what_the_checkpoint_is_loaded_as(
    dtypes: dict[str, str], weights: Path, published: Sources, tmp_path: Path
) -> None:
    # given a model whose autoencoder, ear, time path, norms and head stay in float32
    preset = replace(TINY_PRESET, dtypes=dtypes)
    folder = convert(preset, tmp_path, published, report=quiet, shard_bytes=500_000)
    check(folder, preset)
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    # then what is stored, what is loaded of it, and what is loaded of the checkpoint are the same
    for part in preset.parts:
        stored = {
            name: tensor
            for file in (folder / part).glob("*.safetensors")
            for name, tensor in load_file(file).items()
        }
        loaded, of_checkpoint = (
            load_part(each, part, dtype=preset.dtype_of(part)).state_dict()
            for each in (folder, weights)
        )
        for name, tensor in stored.items():
            torch.testing.assert_close(tensor, loaded[name], rtol=0, atol=0)
            torch.testing.assert_close(tensor, of_checkpoint[name], rtol=0, atol=0)


def test_where_two_files_have_a_tensor_infinitetalks_counts(
    damaged: Sources, tmp_path: Path
) -> None:
    file = damaged["infinitetalk"].path
    save_file(load_file(file) | {"head.head.bias": torch.full((64,), 7.0)}, file)
    folder = convert(TINY_PRESET, tmp_path, damaged, report=quiet)
    assert (official.load_part(folder, "transformer")["proj_out.bias"] == 7).all()


def test_a_folder_of_safetensors_is_a_wav2vec2_too(damaged: Sources, tmp_path: Path) -> None:
    ear = damaged["wav2vec"].path
    save_file(torch.load(ear / "pytorch_model.bin"), ear / "model.safetensors")
    (ear / "pytorch_model.bin").unlink()
    check(convert(TINY_PRESET, tmp_path, damaged, report=quiet), TINY_PRESET)


def test_progress_is_reported_in_bytes_up_to_the_total(published: Sources, tmp_path: Path) -> None:
    reported: list[tuple[str, int, int]] = []
    folder = convert(TINY_PRESET, tmp_path, published, report=lambda *event: reported.append(event))
    assert [done for _, done, _ in reported] == sorted(done for _, done, _ in reported)
    assert (
        reported[-1][1]
        == reported[-1][2]
        == sum(size for _, size in check(folder, TINY_PRESET).values())
    )
    assert list(dict.fromkeys(part for part, _, _ in reported)) == list(TINY_PRESET.parts)


def test_the_folder_records_its_sources(published: Sources, tmp_path: Path) -> None:
    known = Source(published["wan"].path, "Wan-AI/Wan2.1-I2V-14B-480P", "main", "0" * 40)
    folder = convert(TINY_PRESET, tmp_path, {**published, "wan": known}, report=quiet)
    taken = read_sources(folder / "sources.json")
    assert taken["transformer"] == known
    assert taken["vae"] == replace(known, path=known.path / official.VAE)
    assert taken["infinitetalk"] == published["infinitetalk"]


def test_an_existing_folder_is_not_overwritten(published: Sources, tmp_path: Path) -> None:
    (tmp_path / TINY_PRESET.name).mkdir()
    with pytest.raises(InvalidInput, match=r"tiny exists; remove it, .*FARM_WEIGHTS"):
        convert(TINY_PRESET, tmp_path, published, report=quiet)


def test_a_folder_that_cannot_be_written_is_named(published: Sources, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file where a folder should be")
    with pytest.raises(PipelineLoadFailed, match=r"weights/tiny cannot be written"):
        convert(TINY_PRESET, tmp_path / "weights", published, report=quiet)


def drop(tensors: dict[str, Tensor], name: str) -> None:
    del tensors[name]


def reshape(tensors: dict[str, Tensor], name: str) -> None:
    tensors[name] = torch.zeros(3, 5)


def rename(tensors: dict[str, Tensor], name: str) -> None:
    tensors[f"{name}.old"] = tensors.pop(name)


FAULTS = {
    drop: "1 missing tensor: {name}",
    reshape: r"\b1 mismatched .*{name}.*\[3, 5\]",
    rename: "{name}.old",
}

PLACES = {
    "blocks.1.ffn.0.weight": (
        "wan",
        "diffusion_pytorch_model-0000?-of-00007.safetensors",
    ),
    "blocks.0.audio_cross_attn.kv_linear.weight": ("infinitetalk", ""),
    "decoder.upsamples.3.residual.2.weight": ("wan", official.VAE),
    "blocks.1.ffn.gate.0.weight": ("wan", official.T5),
    "visual.transformer.2.mlp.0.weight": ("wan", official.CLIP),
    "wav2vec2.encoder.layers.1.attention.k_proj.weight": (
        "wav2vec",
        "pytorch_model.bin",
    ),
}


def rewrite(path: Path, name: str, damage: Callable[[dict[str, Tensor], str], None]) -> None:
    files = [path] if path.is_file() else list(path.parent.glob(path.name))
    for file in files:
        tensors = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
        if name in tensors:
            damage(tensors, name)
            save = save_file if file.suffix == ".safetensors" else torch.save
            save(tensors, file)


@pytest.mark.parametrize("damage", FAULTS, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", PLACES)
def test_a_faulty_tensor_is_refused_by_its_published_name(
    name: str,
    damage: Callable[[dict[str, Tensor], str], None],
    damaged: Sources,
    tmp_path: Path,
) -> None:
    role, file = PLACES[name]
    rewrite(damaged[role].path / file, name, damage)
    message = FAULTS[damage].format(name=name.removeprefix("wav2vec2.") if damage is drop else name)
    with pytest.raises(PipelineLoadFailed, match=message):
        convert(TINY_PRESET, tmp_path / "weights", damaged, report=quiet)
    assert not (tmp_path / "weights").exists()


def test_a_shard_cut_short_is_refused_by_the_tensors_that_it_lost(
    damaged: Sources, tmp_path: Path
) -> None:
    shard = damaged["wan"].path / "diffusion_pytorch_model-00003-of-00007.safetensors"
    last = max(
        json.loads(header(shard)).items(),
        key=lambda each: each[1]["data_offsets"][1],
    )[0]
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(PipelineLoadFailed, match=f"1 truncated tensor: {last} in {shard.name}"):
        convert(TINY_PRESET, tmp_path / "weights", damaged, report=quiet)


def header(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


@pytest.mark.parametrize("file", [official.VAE, official.T5, official.CLIP])
def test_a_pickle_cut_short_is_refused_by_its_path(
    file: str, damaged: Sources, tmp_path: Path
) -> None:
    os.truncate(damaged["wan"].path / file, 5000)
    with pytest.raises(PipelineLoadFailed, match=f"{file} is refused: it is damaged"):
        convert(TINY_PRESET, tmp_path / "weights", damaged, report=quiet)


MISSING = {
    "diffusion_pytorch_model-00004-of-00007.safetensors": "transformer: not found .*{} is missing",
    official.T5: "text_encoder: not found .*published: {} of .*; give --text-encoder",
    "google/umt5-xxl": "tokenizer: not found .*published: the folder {} of .*--tokenizer",
}


@pytest.mark.parametrize("file", MISSING)
def test_a_missing_file_of_wan_is_named(file: str, damaged: Sources, tmp_path: Path) -> None:
    lost = damaged["wan"].path / file
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    with pytest.raises(PipelineLoadFailed, match=MISSING[file].format(file)):
        convert(TINY_PRESET, tmp_path / "weights", damaged, report=quiet)


def test_a_voice_encoder_without_its_preprocessor_configuration_is_refused(
    damaged: Sources, tmp_path: Path
) -> None:
    (damaged["wav2vec"].path / "preprocessor_config.json").unlink()
    with pytest.raises(PipelineLoadFailed, match="preprocessor_config"):
        convert(TINY_PRESET, tmp_path / "weights", damaged, report=quiet)


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("container", ["torch.save", "pickle"])
@pytest.mark.parametrize(
    "place",
    [
        ("wan", official.VAE),
        ("wan", official.CLIP),
        ("wav2vec", "pytorch_model.bin"),
    ],
)
def test_a_pickle_that_runs_code_is_refused_and_runs_none(
    container: str, place: tuple[str, str], damaged: Sources, tmp_path: Path
) -> None:
    # given a file that makes a folder when it is unpickled
    mark = tmp_path / "mark"
    file = damaged[place[0]].path / place[1]
    harm = {"conv1.weight": torch.zeros(1), "harm": Trap(mark)}
    if container == "pickle":
        file.write_bytes(pickle.dumps(harm, protocol=2))
    else:
        torch.save(harm, file)
    # when it is converted, then it is refused, and there is no such folder
    with pytest.raises(
        PipelineLoadFailed,
        match=f"{file.name} is refused: .*holds more than tensors",
    ):
        convert(TINY_PRESET, tmp_path / "weights", damaged, report=quiet)
    assert not mark.exists()


def test_a_pickle_of_something_else_than_a_table_of_tensors_is_refused(
    damaged: Sources, tmp_path: Path
) -> None:
    torch.save(
        {"state_dict": {"conv1.weight": torch.zeros(1)}},
        damaged["wan"].path / official.VAE,
    )
    with pytest.raises(PipelineLoadFailed, match="is not a dict of named tensors"):
        convert(TINY_PRESET, tmp_path / "weights", damaged, report=quiet)
