from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from farm.cli import cli
from farm.errors import PipelineLoadFailed
from farm.model.weights.check import check, check_part, differences
from farm.model.weights.lock import LockedRepository, lock_file, write_lock
from farm.model.weights.sources import Source, pull_record, read_sources, write_sources
from farm.model.weights.tensorfile import TensorInfo
from farm.presets import PRESETS
from tests.support.tiny_model import TINY_PRESET
from tests.unit.model import official


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    """A copy of good weights that a test may damage."""
    return Path(shutil.copytree(weights, tmp_path / weights.name))


def test_good_weights_are_counted_by_part(weights: Path) -> None:
    found = check(weights, TINY_PRESET)
    assert list(found) == list(TINY_PRESET.parts)
    tensors = load_file(weights / "vae" / "diffusion_pytorch_model.safetensors")
    assert found["vae"] == (
        len(tensors),
        sum(each.nbytes for each in tensors.values()),
    )


def test_every_faulty_part_is_named_at_once(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    shutil.rmtree(folder / "audio_encoder")
    (folder / "vae" / "config.json").unlink()
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors["shared.weight"] = torch.zeros(3, 5)
    save_file(tensors, file)
    with pytest.raises(PipelineLoadFailed) as failure:
        check(folder, TINY_PRESET)
    assert "vae/config.json is missing" in failure.value.message
    assert (
        "1 mismatched tensor: shared.weight is [3, 5] instead of [259, 64]" in failure.value.message
    )
    assert "tokenizer is missing" in failure.value.message
    assert "audio_encoder is missing" in failure.value.message


def test_weights_that_were_converted_from_another_commit_than_the_locked_one_are_refused(
    folder: Path,
) -> None:
    write_sources(folder / "sources.json", {"wan": Source(folder, "a/b", "main", "1" * 40)})
    file = lock_file(folder.parent, TINY_PRESET)
    write_lock(file, {"a/b": LockedRepository("1" * 40, {})})
    assert check(folder, TINY_PRESET)
    write_lock(file, {"a/b": LockedRepository("2" * 40, {})})
    with pytest.raises(PipelineLoadFailed) as failure:
        check(folder, TINY_PRESET)
    message = f"from a/b at {'1' * 40}; {file} has {'2' * 40}: convert it again"
    assert message in failure.value.message


def test_a_part_of_another_size_than_the_presets_is_refused_even_if_it_is_sound(
    weights: Path,
) -> None:
    longer = {
        **TINY_PRESET.parts,
        "transformer": {**TINY_PRESET.parts["transformer"], "num_layers": 3},
    }
    with pytest.raises(
        PipelineLoadFailed, match=r"config\.json says num_layers 2; the model has 3"
    ):
        check(weights, replace(TINY_PRESET, parts=longer))


def test_a_file_cut_short_is_refused_by_the_tensors_that_it_lost(
    folder: Path,
) -> None:
    file = folder / "audio_encoder" / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    last = sorted(load_names(folder))[-1]
    with pytest.raises(
        PipelineLoadFailed,
        match=f"audio_encoder cannot be loaded: 1 truncated tensor: {last}",
    ):
        check(folder, TINY_PRESET)


def load_names(folder: Path) -> list[str]:
    content = (folder / "audio_encoder" / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return [name for name in header if name != "__metadata__"]


@pytest.mark.parametrize(
    ("content", "expected_message"),
    [
        (b"", "truncated or not a safetensors file"),
        (b"\xff" * 100, "truncated or not a safetensors file"),
        (
            (9).to_bytes(8, "little") + b"not json!",
            "its header is not a valid safetensors header",
        ),
        (
            (13).to_bytes(8, "little") + b'{"a": {"b":1}',
            "its header is not a valid safetensors header",
        ),
    ],
)
def test_a_file_without_tensors_is_refused(
    content: bytes, expected_message: str, folder: Path
) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(PipelineLoadFailed, match=f"vae cannot be loaded: .*{expected_message}"):
        check_part(folder, "vae")


def test_an_index_cannot_lead_out_of_its_folder(folder: Path) -> None:
    index = folder / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"quant_conv.bias": "../../elsewhere.safetensors"}}))
    with pytest.raises(PipelineLoadFailed, match="names a file outside its folder"):
        check_part(folder, "vae")


def test_many_differences_are_counted_and_the_first_ones_named() -> None:
    expected = {f"blocks.{number}.weight": torch.Size([2]) for number in range(9)}
    found = {"blocks.0.weight": TensorInfo(torch.Size([2]), torch.float32)}
    expected_message = (
        "8 missing tensors: blocks.1.weight, blocks.2.weight, blocks.3.weight and 5 more"
    )
    assert differences(expected, found) == expected_message
    assert (
        differences(
            expected,
            {name: TensorInfo(shape, torch.float32) for name, shape in expected.items()},
        )
        == ""
    )


@pytest.fixture
def published(weights: Path, tmp_path: Path) -> dict[str, Source]:
    return official.publish(weights, tmp_path / "published", TINY_PRESET)


def words(published: dict[str, Source]) -> list[str]:
    """The options that name published weights."""
    return [
        "--folder",
        str(published["wan"].path),
        "--infinitetalk",
        str(published["infinitetalk"].path),
        "--audio-encoder",
        str(published["wav2vec"].path),
    ]


@pytest.mark.parametrize("given", ["options", "environment"])
def test_the_command_converts_then_checks_then_finds_the_fault(
    given: str,
    published: dict[str, Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PRESETS, TINY_PRESET.name, TINY_PRESET)
    # given published weights, named by options or by the names that other systems use
    environment = {"FARM_WEIGHTS": str(tmp_path / "weights")}
    names = {
        "wan": "CKPT_DIR",
        "infinitetalk": "INFINITETALK_DIR",
        "wav2vec": "WAV2VEC_DIR",
    }
    options = words(published)
    if given == "environment":
        environment |= {names[role]: str(each.path) for role, each in published.items()}
        options = []
    run = CliRunner()
    # when they are converted and checked
    converted = run.invoke(cli, ["weights", "convert", TINY_PRESET.name, *options], env=environment)
    checked = run.invoke(cli, ["weights", "check", TINY_PRESET.name], env=environment)
    # then both say what there is
    assert (converted.exit_code, checked.exit_code) == (0, 0), converted.output + checked.output
    assert str(tmp_path / "weights" / TINY_PRESET.name) in converted.output
    assert [line.split()[:2] for line in checked.output.splitlines()][:3] == [
        ["preset", TINY_PRESET.name],
        ["transformer", "113"],
        ["vae", "146"],
    ]
    # and a fault is an exit status and a sentence
    (
        tmp_path / "weights" / TINY_PRESET.name / "vae" / "diffusion_pytorch_model.safetensors"
    ).unlink()
    checked = run.invoke(cli, ["weights", "check", TINY_PRESET.name], env=environment)
    assert checked.exit_code == 1
    assert "E_PIPELINE_LOAD" in checked.output
    assert "diffusion_pytorch_model.safetensors is missing" in checked.output


def test_a_source_neither_given_nor_pulled_is_refused(tmp_path: Path) -> None:
    environment = {"FARM_WEIGHTS": str(tmp_path), "CKPT_DIR": None}
    done = CliRunner().invoke(cli, ["weights", "convert"], env=environment)
    assert done.exit_code == 2
    assert "nothing to convert is given or pulled; pass --folder" in done.output


def test_what_was_pulled_is_converted_but_for_what_is_given(
    published: dict[str, Source], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, TINY_PRESET.name, TINY_PRESET)
    # given pulled weights, and an autoencoder in half the bits
    root = tmp_path / "weights"
    known = {role: replace(each, commit="1" * 40) for role, each in published.items()}
    write_sources(pull_record(root, TINY_PRESET), known)
    half = tmp_path / "half"
    save_file(
        {name: each.bfloat16() for name, each in official.load_part(weights, "vae").items()}, half
    )
    environment = {"FARM_WEIGHTS": str(root)}
    run = CliRunner()
    # when they are converted and checked
    converted = run.invoke(
        cli, ["weights", "convert", TINY_PRESET.name, "--vae", str(half)], env=environment
    )
    assert converted.exit_code == 0, converted.output
    assert (
        f"{half}: a Wan VAE of width 8, 16 latents (safetensors of bfloat16, " in converted.output
    )
    # then the check says what the half cost, and the record where the rest is from
    checked = run.invoke(cli, ["weights", "check", TINY_PRESET.name], env=environment).output
    assert "vae            was rounded in its source: bfloat16, about 0.2 %" in checked
    lines = run.invoke(cli, ["weights", "check", TINY_PRESET.name, "--json"], env=environment)
    assert [json.loads(line) for line in lines.output.splitlines() if "rounding" in line] == [
        {"preset": TINY_PRESET.name, "role": "vae", "rounding": "bfloat16, about 0.2 %"}
    ]
    taken = read_sources(root / TINY_PRESET.name / "sources.json")
    assert {role: source.commit for role, source in taken.items()} == {
        **dict.fromkeys(taken, "1" * 40),
        "vae": None,
    }


def test_files_are_identified_with_the_option_that_takes_them(
    published: dict[str, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, TINY_PRESET.name, TINY_PRESET)
    lora = tmp_path / "other.safetensors"
    save_file({"blocks.0.x\x1b[2J.lora_down.weight": torch.ones(1)}, lora)
    command = ["weights", "identify", "--preset", TINY_PRESET.name]
    paths = [str(published["wan"].path), str(published["infinitetalk"].path), str(lora)]
    run = CliRunner()
    done = run.invoke(cli, [*command, *paths])
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    wan = published["wan"].path
    assert (
        f"{wan}: Wan 2.1 I2V (480P or 720P) of width 128 (safetensors of float32, " in done.output
    )
    assert "original names); --transformer" in done.output
    assert (
        f"{wan / official.VAE}: a Wan VAE of width 8, 16 latents (pickle of float32, "
        in done.output
    )
    assert "a tokenizer of 259 tokens" in done.output
    assert (
        f"{lora}: a LoRA, which belongs into FARM_LORAS (safetensors of float32); no" in done.output
    )
    lines = run.invoke(cli, [*command, "--json", *paths]).output.splitlines()
    records = [json.loads(line) for line in lines]
    assert {record["option"] for record in records if "option" in record} == {
        "--transformer",
        "--infinitetalk",
        "--text-encoder",
        "--image-encoder",
        "--vae",
        None,
    }


def test_a_file_that_cannot_be_identified_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(20))
    done = CliRunner().invoke(cli, ["weights", "identify", str(tmp_path / "model.gguf")])
    assert done.exit_code == 1
    assert "model.gguf cannot be read: its header is not a valid GGUF header" in done.output
