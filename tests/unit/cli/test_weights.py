"""`farm weights`."""

from __future__ import annotations

import json
from hashlib import sha256

import torch
from safetensors.torch import save_file

from farm.model.weights.fingerprint import UNREMEMBERED, checkpoint_fingerprint
from farm.presets import MINIATURE


def test_weights_as_json_are_a_line_for_each_part_and_their_fingerprint(run, tmp_path):
    *parts, last = [
        json.loads(line)
        for line in run("weights", "check", "miniature", "--json").stdout.splitlines()
    ]
    assert "transformer" in {part["part"] for part in parts}
    assert all(part["tensors"] > 0 and part["bytes"] > 0 for part in parts)
    fingerprint = checkpoint_fingerprint(MINIATURE.folder(tmp_path), UNREMEMBERED)
    assert last == {"preset": "miniature", "fingerprint": fingerprint}


def test_the_fingerprint_of_weights_is_shown(run, tmp_path):
    fingerprint = checkpoint_fingerprint(MINIATURE.folder(tmp_path), UNREMEMBERED)
    assert run("weights", "check", "miniature").stdout.endswith(f" {fingerprint}\n")


def test_without_a_preset_the_weights_of_the_served_models_and_all_others_here_are_checked(
    run, tmp_path
):
    done = run("weights", "check")
    assert (done.exit_code, done.stdout.count("preset ")) == (0, 1)
    assert done.stdout.startswith("preset         miniature\n")
    missing = run("weights", "check", FARM_PRESETS="miniature,flashtalk")
    assert missing.exit_code == 1
    assert "/flashtalk is missing; run `farm weights pull`" in missing.stderr


def kohya_file(path):
    """A LoRA of one module of the miniature."""
    stem = "lora_unet_blocks_0_self_attn_q"
    tensors = {
        f"{stem}.lora_down.weight": torch.ones(4, 256),
        f"{stem}.lora_up.weight": torch.ones(256, 4),
        f"{stem}.alpha": torch.tensor(2.0),
    }
    save_file(tensors, path)
    return path


def test_a_lora_file_is_checked_without_weights(run, tmp_path):
    file = kohya_file(tmp_path / "lora.safetensors")
    done = run("weights", "check", "miniature", "--lora", str(file))
    digest = sha256(file.read_bytes()).hexdigest()[:12]
    assert done.stdout.splitlines() == [
        f"{file}: 3 tensors (lora_unet_, original names, rank 4)",
        "changes        1 of 273 parameters of miniature",
        f"fingerprint    {digest}",
    ]
    found = json.loads(run("weights", "check", "miniature", "--lora", str(file), "--json").stdout)
    assert (found["changed"], found["ranks"], found["fingerprint"]) == (1, [4], digest)


def test_a_lora_file_of_another_model_is_refused_with_its_names(run, tmp_path):
    # the 14b has queries of another shape, and its weights are not installed
    file = kohya_file(tmp_path / "lora.safetensors")
    done = run("weights", "check", "infinitetalk-480", "--lora", str(file))
    assert done.exit_code == 1
    assert "lora_up.weight is [256, 4] by [4, 256]; the model has [5120, 5120]" in done.stderr
