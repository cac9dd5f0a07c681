"""Runs one reference case through the farm's own model code and compares the numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

from farm.model.audio import AudioEncoder
from farm.model.caching import TeaCache
from farm.model.denoise import Denoiser, Sampling
from farm.model.guidance import Apg
from farm.model.pipeline import Pipeline
from farm.model.speakers import Box, on_tokens
from farm.model.transformer import InfiniteTalkTransformer
from farm.model.vae import Made, VideoAutoencoder, joined
from farm.model.variant import Variants
from farm.plan import Chunk, Plan, audio_rows
from farm.presets import preset
from tests.reference.drawing import (
    draw,
    filled,
    filled_autoencoder,
    filled_transformer,
)

AUDIO_LAYERS = 12
AUDIO_DIM = 768
IMAGE_DIM = 1280


class Unsupported(Exception):
    """The case needs a feature that the farm's model does not have."""


@dataclass(frozen=True)
class Comparison:
    """The error of one tensor of a case against the original."""

    tensor: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def run(folder: Path) -> list[Comparison]:
    """Every tensor of the case compared.

    Raises Unsupported if the case needs a feature that the model does not have.
    """
    case = json.loads((folder / "case.json").read_text())
    expected = _expected(folder, case)
    kinds: dict[str, Callable[[str, dict[str, Any]], dict[str, Tensor]]] = {
        "transformer": _transformer,
        "wav2vec": _wav2vec,
        "loop": _loop,
    }
    if case["kind"] not in kinds:
        raise Unsupported(
            f"cases of kind {case['kind']!r} are unknown; there are {', '.join(kinds)}"
        )
    got = kinds[case["kind"]](folder.resolve().name, case)
    if missing := expected.keys() - got.keys():
        raise Unsupported(f"nothing here computes {', '.join(sorted(missing))}")
    return [
        Comparison(name, _relative_error(got[name], wanted), _tolerance(case["kind"], name))
        for name, wanted in expected.items()
    ]


def _expected(folder: Path, case: dict[str, Any]) -> dict[str, Tensor]:
    """The expected tensors and, with TeaCache, the passes that went through the blocks."""
    expected = load_file(folder / "expected.safetensors")
    if "computed_passes" in case:
        expected["computed_passes"] = torch.tensor(case["computed_passes"])
    return expected


def _tolerance(kind: str, tensor: str) -> float:
    if tensor == "computed_passes":
        return 1e-9
    if kind == "loop":
        return 2e-3 if tensor == "video" else 2e-4
    return {"transformer": 2e-5, "wav2vec": 1e-5}[kind]


def _relative_error(got: Tensor, wanted: Tensor) -> float:
    """The difference's norm over the expected norm.

    Infinite for another shape or for numbers that are not finite.
    """
    if got.shape != wanted.shape or not got.isfinite().all():
        return float("inf")
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


def _built_transformer(config: dict[str, Any]) -> InfiniteTalkTransformer:
    model = InfiniteTalkTransformer(
        in_channels=config["in_dim"],
        out_channels=config["out_dim"],
        num_attention_heads=config["num_heads"],
        attention_head_dim=config["dim"] // config["num_heads"],
        num_layers=config["num_layers"],
        ffn_dim=config["ffn_dim"],
        freq_dim=config["freq_dim"],
        text_dim=config["text_dim"],
        text_len=config["text_len"],
        image_dim=IMAGE_DIM,
        audio_window=config["audio_window"],
        audio_layers=AUDIO_LAYERS,
        audio_dim=AUDIO_DIM,
        audio_hidden_dim=config["intermediate_dim"],
        audio_tokens=config["context_tokens"],
        audio_token_dim=config["output_dim"],
    )
    filled_transformer(model)
    return model


@torch.inference_mode()
def _transformer(name: str, case: dict[str, Any]) -> dict[str, Tensor]:
    channels, frames, height, width = case["latent_shape"]
    latents = draw(f"{name}.latents", (channels, frames, height, width))
    condition = draw(f"{name}.y", (1, 20, frames, height, width))
    heard = (case["humans"], 4 * (frames - 1) + 1, 5, AUDIO_LAYERS, AUDIO_DIM)
    output = _built_transformer(case["model"])(
        torch.cat([latents[None], condition], dim=1),
        torch.tensor([case["timestep"]]),
        text=draw(f"{name}.context", (case["context_tokens"], case["model"]["text_dim"]))[None],
        image=draw(f"{name}.clip_fea", (1, 257, IMAGE_DIM)),
        audio=_regrouped(case["audio_scale"] * draw(f"{name}.audio", heard)[None]),
        regions=on_tokens(_masks(case["masks"], height, width))[None],
    )
    return {"output": output[0]}


def _masks(kind: str, height: int, width: int) -> Tensor:
    """The speakers' masks on the latent grid, [3, height, width]."""
    if kind == "ones":
        return torch.ones(3, height, width)
    if kind != "halves":
        raise Unsupported(f"masks are {kind!r}; ones and halves are known")
    masks = torch.zeros(3, height, width)
    masks[0, 1 : height - 1, 1 : width // 2 - 1] = 1
    masks[1, 1 : height - 1, width // 2 + 1 : width - 1] = 1
    masks[2] = 1 - masks[0] - masks[1]
    return masks


def _regrouped(heard: Tensor) -> tuple[Tensor, Tensor]:
    """The windows of latent frames from windows of 5 around video frames [B, S, F, 5, ...].

    Of a latent frame's four windows the first gives its first 3 entries, the middle ones their
    centre, the last its last 3.
    """
    groups = heard[:, :, 1:].unflatten(2, (-1, 4))
    later = torch.cat(
        [groups[:, :, :, 0, :3], groups[:, :, :, 1:3, 2], groups[:, :, :, 3, 2:]],
        dim=3,
    )
    return heard[:, :, 0], later


def _wav2vec(name: str, case: dict[str, Any]) -> dict[str, Tensor]:
    model = Wav2Vec2Model(Wav2Vec2Config(**case["config"]))
    torch.nn.utils.parametrize.remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight")
    waveform = case["waveform_scale"] * draw(f"{name}.waveform", (case["samples"],))
    encoder = AudioEncoder(filled(model), do_normalize=case.get("do_normalize", True))
    return {"embedding": encoder.embed(waveform.numpy())}


class _Recorder(VideoAutoencoder):
    """An autoencoder that keeps the latents that it decodes."""

    def __init__(self, model: AutoencoderKLWan) -> None:
        super().__init__(model)
        self.decoded: list[Tensor] = []

    def decode_pieces(self, latents: Tensor, consume: Callable[[Iterator[Tensor]], Made]) -> Made:
        self.decoded.append(latents)
        return super().decode_pieces(latents, consume)


def _loop(name: str, case: dict[str, Any]) -> dict[str, Tensor]:
    if case["humans"] not in (1, 2):
        raise Unsupported(
            f"the pipeline is driven by one or two speakers, the case has {case['humans']}"
        )
    vae = _Recorder(filled_autoencoder(AutoencoderKLWan(**case["vae"])))
    pipeline = _pipeline(name, case, vae)
    computed = _passes(pipeline.transformer)
    video = torch.cat(list(_chunks(name, case, pipeline)), dim=1)
    latents = {f"latents_{index}": latents for index, latents in enumerate(vae.decoded)}
    return {"video": video, **latents, "computed_passes": torch.tensor(computed)}


def _passes(transformer: InfiniteTalkTransformer) -> list[int]:
    """A list that grows with every pass: 1 if it went through the blocks, else 0."""
    computed: list[int] = []
    transformer.register_forward_pre_hook(lambda *_: computed.append(0))
    transformer.blocks[0].register_forward_pre_hook(lambda *_: computed.append(computed.pop() + 1))
    return computed


def _pipeline(name: str, case: dict[str, Any], vae: VideoAutoencoder) -> Pipeline:
    buckets = {float(ratio): (height, width) for ratio, (height, width) in case["buckets"].items()}
    tokens = draw(f"{name}.clip_fea", (1, 257, IMAGE_DIM))
    transformer = _built_transformer(case["model"])
    model = replace(preset("miniature"), sizes={case["size"]: buckets})
    if _is_flashtalk(case):
        model = replace(model, sampler="consistency", has_lead_in=True)
    return Pipeline(
        preset=model,
        device="cpu",
        denoiser=Denoiser(
            transformer, Variants(transformer, transformer.state_dict(), "cpu"), "cpu"
        ),
        vae=vae,
        encode_text=lambda prompt: draw(*_text(name, case, prompt)),
        encode_image=lambda picture: tokens,
    )


def _text(name: str, case: dict[str, Any], which: str) -> tuple[str, tuple[int, int]]:
    return f"{name}.{which}", (case[f"{which}_tokens"], case["model"]["text_dim"])


def _sampling(case: dict[str, Any]) -> Sampling:
    return Sampling(
        steps=case["sample_steps"],
        shift=case["sample_shift"],
        text_scale=case["sample_text_guide_scale"],
        audio_scale=case["sample_audio_guide_scale"],
        colour_strength=case["color_correction_strength"],
        motion_frame=case["motion_frame"],
        seed=case["base_seed"],
        apg=Apg(case["apg_momentum"], case["apg_norm_threshold"]) if case["use_apg"] else None,
        teacache=_teacache(case) if case["use_teacache"] else None,
    )


def _teacache(case: dict[str, Any]) -> TeaCache:
    return TeaCache(case["teacache_thresh"], preset("infinitetalk-480").teacache[case["size"]])


def _is_flashtalk(case: dict[str, Any]) -> bool:
    if case.get("sampler", "flashtalk") != "flashtalk":
        raise Unsupported(f"sampler is {case['sampler']!r}; known is flashtalk")
    return "sampler" in case


def _plan(case: dict[str, Any]) -> Plan:
    motion_frame = case["motion_frame"]
    if not _is_flashtalk(case):
        frames = min(case["audio_frames"], case["max_frame_num"])
        return Plan(frames, case["frame_num"], motion_frame)
    frames = case["chunks"] * (case["frame_num"] - motion_frame)
    return Plan(frames, case["frame_num"], motion_frame, lead_in=motion_frame)


def _audio(name: str, case: dict[str, Any], chunk: Chunk) -> Tensor:
    """The rows of each speaker that a chunk hears."""
    if case.get("audio_encode") == "stream":
        frames = case["frame_num"]
        rows = draw(f"{name}.audio1.{chunk.index}", (frames + 2, AUDIO_LAYERS, AUDIO_DIM))
        return case["audio_scale"] * torch.cat([rows, rows[-1:], rows[-1:]])[None]
    length = case["audio_frames"]
    voices = [
        draw(f"{name}.audio{speaker + 1}", (length, AUDIO_LAYERS, AUDIO_DIM))
        for speaker in range(case["humans"])
    ]
    return case["audio_scale"] * torch.stack(voices)[:, audio_rows(chunk, length)]


def _chunks(name: str, case: dict[str, Any], pipeline: Pipeline) -> Iterator[Tensor]:
    """The job as the farm's generate step runs it, chunk by chunk."""
    plan = _plan(case)
    boxes = _boxes(case)
    tail = None
    for chunk in map(plan.chunk, range(plan.chunks)):
        picture = _source_frame(name, case, min(chunk.source_frame, case["source_frames"] - 1))
        frames, tail = pipeline.chunk(
            chunk,
            condition=pipeline.condition(
                picture, size=case["size"], frame_num=case["frame_num"], boxes=boxes
            ),
            text=pipeline.encode_text("context"),
            negative_text=pipeline.encode_text("context_null"),
            audio=_audio(name, case, chunk),
            tail=tail,
            sampling=_sampling(case),
            report=lambda stage, done, total: None,
            show=joined,
        )
        yield frames


def _boxes(case: dict[str, Any]) -> list[Box]:
    """The boxes of two speakers; one speaker's box is not used."""
    boxes = case["bbox"] if case["humans"] == 2 and case["bbox"] else []
    return [tuple(box) for box in (boxes.values() if isinstance(boxes, dict) else boxes)]


def _source_frame(name: str, case: dict[str, Any], index: int) -> np.ndarray:
    width, height = case["source_size"]
    noise = draw(f"{name}.frame{index}", (height, width, 3)).clip(-2, 2)
    return (noise / 4 * 255 + 127.5).round().to(torch.uint8).numpy()
