from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from farm.errors import PipelineLoadFailed
from farm.model.weights import search
from farm.model.weights.search import findings, token_count

VAE = {"decoder.head.0.gamma": torch.ones(4, 1, 1, 1)}
WAN = {
    "patch_embedding.weight": torch.ones(8, 36, 1, 2, 2),
    "blocks.0.self_attn.q.weight": torch.ones(8, 8),
    "blocks.1.self_attn.q.weight": torch.ones(8, 8),
}


def save_shards(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in zip(names, WAN, strict=True):
        save_file({name: WAN[name]}, folder / file)


def write_index(folder: Path, names: list[str]) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(zip(WAN, names, strict=True))}))
    return index


def test_files_are_found_at_any_depth_beside_what_holds_no_weights(tmp_path: Path) -> None:
    deep = tmp_path / "vae" / "wan"
    deep.mkdir(parents=True)
    save_file(VAE, deep / "any.name")
    (tmp_path / "README.md").write_text("{}")
    (tmp_path / ".cache").mkdir()
    save_file(VAE, tmp_path / ".cache" / "hidden")
    found = findings(tmp_path)
    assert [each.path for each in found.candidates] == [deep / "any.name"]
    assert not found.faults


@pytest.mark.parametrize("indexed", [True, False])
def test_shards_are_one_model_by_their_index_or_their_numbers(
    indexed: bool, tmp_path: Path
) -> None:
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    if indexed:
        names = ["one", "two", "three"]
        write_index(tmp_path, names)
    save_shards(tmp_path, names)
    (only,) = findings(tmp_path).candidates
    assert only.path == tmp_path
    assert len(only.files) == 3
    assert only.identity.models == {"transformer": "Wan 2.2 I2V of width 8"}


def test_in_the_hubs_cache_links_count_and_not_the_files_that_they_lead_to(tmp_path: Path) -> None:
    # given blobs under their digests, and a snapshot of links to them
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    save_shards(tmp_path / "blobs", ["aa", "bb", "cc"])
    save_file(VAE, tmp_path / "blobs" / "dd")
    snapshot = tmp_path / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    for name, blob in zip([*names, "vae"], ["aa", "bb", "cc", "dd"], strict=True):
        (snapshot / name).symlink_to(tmp_path / "blobs" / blob)
    # when they are searched, then each is found once, by its name
    assert [each.path for each in findings(tmp_path).candidates] == [snapshot, snapshot / "vae"]


def test_a_missing_shard_and_a_damaged_index_are_faults_among_other_findings(
    tmp_path: Path,
) -> None:
    save_file(VAE, tmp_path / "vae")
    save_shards(tmp_path / "a", ["one", "two", "three"])
    write_index(tmp_path / "a", ["one", "two", "three"])
    (tmp_path / "a" / "two").unlink()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.safetensors.index.json").write_text("[]")
    found = findings(tmp_path)
    assert [each.path for each in found.candidates] == [tmp_path / "vae"]
    assert sorted(found.faults) == [
        f"{tmp_path / 'a' / 'two'} is missing",
        *(each for each in found.faults if "is not an index of tensors" in each),
    ]
    assert len(found.faults) == 2


def test_a_path_that_is_not_there_and_a_folder_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PipelineLoadFailed, match="gone is missing"):
        findings(tmp_path / "gone")
    for name in "abc":
        (tmp_path / name).touch()
    monkeypatch.setattr(search, "MAX_FILES", 2)
    with pytest.raises(PipelineLoadFailed, match="more than 2 files; name those to take"):
        findings(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert "closed cannot be read" in findings(tmp_path).faults[0]


@pytest.mark.parametrize(
    "record",
    [
        {"model": {"vocab": [["a", 0.0], ["b", -1.0], ["c", -2.0]]}},
        {"model": {"vocab": {"a": 0, "b": 2}}},
        {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 2, "content": "c"}]},
    ],
    ids=["pieces", "words", "added"],
)
def test_tokens_are_counted_up_to_the_highest_id(record: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(record))
    assert token_count(file) == 3
    assert findings(tmp_path).tokenizers == findings(file).tokenizers == {tmp_path: 3}
