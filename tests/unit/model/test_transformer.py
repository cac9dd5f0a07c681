from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_dispatch import attention_backend
from torch import Tensor, nn

from farm.errors import InvalidInput
from farm.model.audio import audio_windows
from farm.model.block_attention import Kept
from farm.model.checkpoints import load_part
from farm.model.parts import build
from farm.model.transformer import InfiniteTalkTransformer
from farm.presets import preset

Predict = Callable[..., Tensor]


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def predictor(model: InfiniteTalkTransformer) -> Predict:
    @torch.inference_mode()
    def predict(
        *,
        timestep: float = 500.0,
        text: Tensor | None = None,
        audio: Tensor | None = None,
        kept: Kept | None = None,
        of_step: Kept | None = None,
        regions: Tensor | None = None,
    ) -> Tensor:
        rows = noise(1, 9, 3, 64) if audio is None else audio
        return model(
            noise(1, 36, 2, 4, 4),
            torch.tensor([timestep]),
            text=noise(1, 7, 64) if text is None else text,
            image=noise(1, 257, 64),
            audio=audio_windows(rows[None]),
            regions=regions,
            kept=kept,
            of_step=of_step,
        )

    return predict


@pytest.fixture(scope="module")
def predict(weights: Path) -> Predict:
    return predictor(load_part(weights, "transformer", dtype="float32"))


@pytest.fixture(scope="module")
def half(weights: Path) -> InfiniteTalkTransformer:
    return load_part(weights, "transformer", dtype="bfloat16")


def test_the_14b_configuration_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = build("transformer", preset("infinitetalk-480").parts["transformer"])
    count = sum(each.numel() for each in model.parameters())
    assert count == pytest.approx(18.88e9, rel=5e-4)
    assert sum(each.numel() for each in model.blocks[0].parameters()) == pytest.approx(
        464.2e6, rel=5e-4
    )
    assert sum(each.numel() for each in model.audio_proj.parameters()) == pytest.approx(
        74.2e6, rel=5e-4
    )


def test_padding_of_the_text_is_seen(predict: Predict) -> None:
    # given the same text with more of its zero padding already there
    text = noise(1, 7, 64)
    longer = torch.cat([text, torch.zeros(1, 30, 64)], dim=1)
    # then nothing changes, because padding never was hidden; fewer paddings would change it
    torch.testing.assert_close(predict(text=text), predict(text=longer), rtol=0, atol=1e-5)


def test_text_longer_than_the_model_reads_is_refused(predict: Predict) -> None:
    with pytest.raises(InvalidInput, match="got 513 tokens; allowed: up to 512"):
        predict(text=noise(1, 513, 64))


def test_every_latent_frame_hears_its_own_sound(predict: Predict) -> None:
    # given sound that differs only in what the second latent frame hears
    audio = noise(1, 9, 3, 64)
    other = noise(1, 9, 3, 64)
    other[:, 8] += 1
    difference = (predict(audio=audio) - predict(audio=other)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[1] > 10 * difference[0] > 0  # frame 0 notices through self-attention only


@pytest.mark.parametrize("speakers", [1, 2])
@torch.inference_mode()
def test_a_batch_is_predicted_like_each_of_it_alone(weights: Path, speakers: int) -> None:
    # given two chunks that differ in everything, also in who is where
    model = load_part(weights, "transformer", dtype="float32")
    latents = noise(2, 36, 2, 4, 4)
    times = torch.tensor([500.0, 900.0])
    conditions = {"text": noise(2, 7, 64), "image": noise(2, 257, 64)}
    rows = noise(2, speakers, 9, 3, 64)
    who = torch.tensor(
        [
            [[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
            [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0]],
        ]
    )
    together = model(latents, times, **conditions, audio=audio_windows(rows), regions=who)
    # then each comes out as it does without the other
    for each in range(2):
        one = slice(each, each + 1)
        alone = model(
            latents[one],
            times[one],
            **{name: tensor[one] for name, tensor in conditions.items()},
            audio=audio_windows(rows[one]),
            regions=who[one],
        )
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-5)


def test_time_norms_and_head_stay_in_float32(half: InfiniteTalkTransformer) -> None:
    block = half.blocks[0]
    exact = [
        half.condition_embedder.time_proj,
        half.condition_embedder.time_embedder.linear_1,
        half.proj_out,
    ]
    assert {each.weight.dtype for each in (*exact, block.norm2, block.norm_audio)} == {
        torch.float32
    }
    assert {block.scale_shift_table.dtype, half.scale_shift_table.dtype} == {torch.float32}
    assert {
        each.weight.dtype
        for each in (
            block.attn1.to_q,
            block.attn_audio.to_kv,
            half.audio_proj.proj1,
        )
    } == {torch.bfloat16}


def test_a_timestep_is_never_rounded_to_the_weights_dtype(
    half: InfiniteTalkTransformer,
) -> None:
    # given two times that are one number in bfloat16
    assert torch.tensor(731.25).bfloat16() == torch.tensor(732.0).bfloat16()
    embedding, modulation = half.condition_embedder.time(torch.tensor([731.25, 732.0]))
    assert embedding.dtype == modulation.dtype == torch.float32
    assert (modulation[0] - modulation[1]).abs().max() > 1e-3


def test_the_prediction_leaves_in_float32_and_close_to_the_exact_one(
    half: InfiniteTalkTransformer, predict: Predict
) -> None:
    rounded = predictor(half)()
    exact = predict()
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, rounded.bfloat16().float())
    assert (rounded - exact).norm() / exact.norm() < 0.02


def test_saving_and_loading_gives_the_same_prediction(
    predict: Predict, weights: Path, tmp_path: Path
) -> None:
    load_part(weights, "transformer", dtype="float32").save_pretrained(tmp_path / "transformer")
    again = load_part(tmp_path, "transformer", dtype="float32")
    assert torch.equal(predictor(again)(), predict())


@pytest.mark.parametrize(("keeps", "calls"), [(True, 1), (False, 3)])
def test_what_follows_from_the_conditions_is_computed_once_if_it_is_kept(
    weights: Path, keeps: bool, calls: int
) -> None:
    model = load_part(weights, "transformer", dtype="float32")
    block = model.blocks[0]
    read = [block.attn2.to_k, block.attn2.add_v_proj, block.attn_audio.to_kv, model.audio_proj]
    counted: list[nn.Module] = []
    for module in read:
        module.register_forward_hook(lambda module, *_: counted.append(module))
    kept: Kept | None = {} if keeps else None
    predict = predictor(model)
    first, *later = [predict(kept=kept) for _ in range(3)]
    assert [counted.count(module) for module in read] == [calls] * len(read)
    assert all(torch.equal(each, first) for each in later)


@pytest.mark.parametrize("speakers", [1, 2])
def test_passes_of_a_step_share_the_first_self_attention(weights: Path, speakers: int) -> None:
    # given a pass with sound and one with silence, which is that of one speaker
    model = load_part(weights, "transformer", dtype="float32")
    predict = predictor(model)
    regions = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]])
    passes = (
        {"audio": noise(speakers, 9, 3, 64), "regions": regions},
        {"audio": 0 * noise(1, 9, 3, 64)},
    )
    expected = [predict(**each) for each in passes]
    # when both are passes of a step
    counted: list[nn.Module] = []
    attentions = [block.attn1 for block in model.blocks]
    for attention in attentions:
        attention.register_forward_hook(lambda module, *_: counted.append(module))
    of_step: Kept = {}
    predictions = [predict(**each, of_step=of_step) for each in passes]
    # then block 0 attends once, and no bit is another
    assert [counted.count(attention) for attention in attentions] == [1, 2]
    assert all(map(torch.equal, predictions, expected))


def test_attention_kernels_can_be_chosen_for_every_attention(
    weights: Path, predict: Predict
) -> None:
    model = load_part(weights, "transformer", dtype="float32")
    with attention_backend("native"):  # at whose end the process has its default back
        model.set_attention_backend("_native_math")
        assert {each._attention_backend.value for each in model.attn_processors.values()} == {
            "_native_math"
        }
        torch.testing.assert_close(predictor(model)(), predict(), rtol=0, atol=1e-4)


def test_norms_have_the_published_epsilons(half: InfiniteTalkTransformer) -> None:
    block = half.blocks[0]
    embedder = half.condition_embedder.image_embedder
    norms = [
        block.norm1,
        block.norm2,
        block.norm3,
        block.norm_audio,
        half.norm_out,
        block.attn1.norm_q,
    ]
    norms += [
        block.attn1.norm_k,
        block.attn2.norm_q,
        block.attn2.norm_k,
        block.attn2.norm_added_k,
    ]
    assert {each.eps for each in norms} == {1e-6}
    assert {each.eps for each in (embedder.norm1, embedder.norm2, half.audio_proj.norm)} == {1e-5}
