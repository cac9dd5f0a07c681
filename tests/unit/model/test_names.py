from __future__ import annotations

import pytest
import torch

from farm.model.checkpoints import built
from farm.model.names import native_transformer, original_transformer
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
