from __future__ import annotations

import pytest
import torch

from farm.model.checkpoints import built
from farm.model.names import native_image_encoder, native_text_encoder, native_transformer, original_transformer
from farm.model.presets import preset


@pytest.mark.parametrize(
    ("original", "native"),
    [
        ("blocks.7.cross_attn.k_img.weight", "blocks.7.attn2.add_k_proj.weight"),
        ("blocks.7.audio_cross_attn.kv_linear.bias", "blocks.7.attn_audio.to_kv.bias"),
        ("blocks.7.audio_cross_attn.proj.weight", "blocks.7.attn_audio.to_out.0.weight"),
        ("blocks.7.norm3.weight", "blocks.7.norm2.weight"),
        ("blocks.7.norm_x.weight", "blocks.7.norm_audio.weight"),
        ("blocks.17.modulation", "blocks.17.scale_shift_table"),
        ("head.modulation", "scale_shift_table"),
        ("head.head.bias", "proj_out.bias"),
        ("audio_proj.proj1_vf.weight", "audio_proj.proj1_vf.weight"),
        ("img_emb.proj.4.weight", "condition_embedder.image_embedder.norm2.weight"),
    ],
)
def test_original_names_become_ours(original: str, native: str) -> None:
    assert native_transformer({original: 1}) == {native: 1}


def test_every_name_of_the_14b_reads_in_both_directions() -> None:
    with torch.device("meta"):
        names = dict.fromkeys(built("transformer", preset("infinitetalk-480").parts["transformer"]).state_dict(), 0)
    originals = original_transformer(names)
    assert len(originals) == len(names)
    assert native_transformer(originals) == names
    assert not [name for name in originals if "attn1" in name or "scale_shift" in name or "condition" in name]


def test_a_text_encoders_names_become_exactly_those_of_its_model() -> None:
    model = built("text_encoder", preset("miniature").parts["text_encoder"])
    leaves = [
        "norm1",
        "norm2",
        "ffn.gate.0",
        "ffn.fc1",
        "ffn.fc2",
        "pos_embedding.embedding",
        *map("attn.{}".format, "qkvo"),
    ]
    originals = ["token_embedding.weight", "norm.weight"]
    originals += [f"blocks.{block}.{leaf}.weight" for block in range(2) for leaf in leaves]
    assert native_text_encoder(dict.fromkeys(originals, 0)).keys() == model.state_dict().keys()


def test_an_image_encoders_tensors_become_exactly_those_of_its_model() -> None:
    model = built("image_encoder", preset("miniature").parts["image_encoder"])
    ours = model.state_dict()
    # given the model's own tensors as the original file holds them, with a text half that is not wanted
    original = {
        "textual.log_scale": torch.zeros(1),
        "visual.head": torch.zeros(64, 8),
        "visual.cls_embedding": ours["embeddings.class_embedding"][None, None],
        "visual.pos_embedding": ours["embeddings.position_embedding.weight"][None],
        "visual.patch_embedding.weight": ours["embeddings.patch_embedding.weight"],
    }
    for theirs, stem in (("pre_norm", "pre_layrnorm"), ("post_norm", "post_layernorm")):
        original |= {f"visual.{theirs}.{leaf}": ours[f"{stem}.{leaf}"] for leaf in ("weight", "bias")}
    renames = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
    renames |= {"mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    for block in range(3):
        there, here = f"visual.transformer.{block}", f"encoder.layers.{block}"
        for leaf in ("weight", "bias"):
            original |= {f"{there}.{a}.{leaf}": ours[f"{here}.{b}.{leaf}"] for a, b in renames.items()}
            rows = [ours[f"{here}.self_attn.{part}_proj.{leaf}"] for part in "qkv"]
            original[f"{there}.attn.to_qkv.{leaf}"] = torch.cat(rows)
    # then the conversion gives them back
    native = native_image_encoder(original)
    assert native.keys() == ours.keys()
    assert all(torch.equal(native[name], ours[name]) for name in ours)
