"""One chunk of video from its conditions: what stands before and after the denoise loop.

Shapes: T latent frames and h w latent sides (an eighth of the pixels'), F video frames, H W pixels,
S speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from farm.errors import GenerationFailed, InvalidInput
from farm.model.attention import AUTO, EXACT
from farm.model.audio import audio_windows
from farm.model.checkpoints import load_part, load_tokenizer
from farm.model.colour import lab_statistics, transfer_colours
from farm.model.denoise import ChunkConditions, Denoiser, Report, Sampling, load_denoiser
from farm.model.image import ImageEncoder, resize_and_crop
from farm.model.memory import translate_out_of_memory
from farm.model.ranks import RankedDenoiser
from farm.model.sampler import SAMPLERS, Noise, Sampler
from farm.model.speakers import Box, regions
from farm.model.text import TextEncoder
from farm.model.transformer import TEMPORAL_STRIDE, InfiniteTalkTransformer
from farm.model.vae import VideoAutoencoder
from farm.model.variant import Variant
from farm.model.weights.fingerprint import (
    TEXT_PARTS,
    UNREMEMBERED,
    VIDEO_PARTS,
    Digests,
    fingerprint,
)
from farm.plan import LOOK_AHEAD, LOOK_BEHIND, Chunk
from farm.presets import Preset, nearest_bucket

Shown = TypeVar("Shown")

Show = Callable[[Iterator[Tensor]], Shown]
"""Takes all of a chunk's new frames [3, F, H, W] in [-1, 1], some at a time, as they are decoded on
the device; called again, from the first frame on, if they are decoded anew.
"""


class TensorRecord:
    """A value whose fields are all tensors, so that it can be stored in one file."""

    def to_tensors(self) -> dict[str, Tensor]:
        """Every field by its name, on the CPU."""
        return {name: tensor.contiguous().cpu() for name, tensor in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `to_tensors`."""
        return cls(**tensors)


@dataclass(frozen=True)
class Condition(TensorRecord):
    """The source image as the model sees it: one per image job, one per chunk of a video job."""

    image_tokens: Tensor
    """[1, 257, image_dim]"""
    latents: Tensor
    """[4 + 16, T, h, w]: the mask, then the latents of the image and of mid grey."""
    frame: Tensor
    """[3, H, W] in [-1, 1], the image after cropping."""
    regions: Tensor
    """[3, (h/2)(w/2)]: masks of person 1, person 2 and the background; used for two speakers."""


@dataclass(frozen=True)
class Tail(TensorRecord):
    """What a chunk leaves for the next one.

    With it, the next chunk comes out bit-identical on every machine with the same kind of device.
    """

    motion_latents: Tensor
    """[16, g, h, w] float32: the last motion_frame frames after colour correction, encoded.

    None of them after a cut.
    """
    generator_state: Tensor
    """uint8, of the job's random generator."""
    colours: Tensor
    """[2, 3]: Lab mean and deviation of the scene's first image."""

    def at_cut(self) -> Self:
        """The tail for a chunk that begins a scene: the generator's state without frames."""
        return replace(self, motion_latents=self.motion_latents[:, :0])

    @property
    def motion_frame(self) -> int:
        """How many frames the next chunk continues from."""
        latents = self.motion_latents.shape[1]
        return 1 + (latents - 1) * TEMPORAL_STRIDE if latents else 0


@dataclass(frozen=True)
class Pipeline:
    """A loaded model; `load_pipeline` makes one."""

    preset: Preset
    device: str
    denoiser: Denoiser | RankedDenoiser
    vae: VideoAutoencoder
    encode_text: Callable[[str], Tensor]
    """A prompt to its features [tokens, text_dim]."""
    encode_image: Callable[[Tensor], Tensor]
    """An image [3, H, W] in [-1, 1] to its tokens [1, 257, image_dim]."""
    attention: str = "native"
    """The kernel of the transformer's attentions that was loaded, by diffusers' name."""
    base_fingerprint: str = ""
    text_fingerprint: str = ""
    """Of the files of all parts, and of the text encoder's; empty for a model without files."""

    def fingerprint(self, variant: Variant) -> str:
        """The fingerprint of all weights that a variant of the model is made of.

        Raises PipelineLoadFailed for an adapter that does not fit.
        """
        return self.base_fingerprint + self.denoiser.fingerprint(variant)

    @property
    def transformer(self) -> InfiniteTalkTransformer:
        """That of this process."""
        return self.denoiser.transformer

    @property
    def _sampler(self) -> Sampler:
        return SAMPLERS[self.preset.sampler]

    def switch_variant(self, variant: Variant) -> bool:
        """Switches to the variant and returns whether the transformer had to change.

        Raises PipelineLoadFailed or OutOfMemory if it cannot.
        """
        with translate_out_of_memory(self.device, f"{self.preset.name} as {variant}"):
            return self.denoiser.switch(variant)

    def switch_attention(self, *, exact: bool, memory: Path | None = None) -> str:
        """Sets the loaded kernel, or the fastest exact one in its place, and returns its name.

        `memory` as of `select_backend`.
        """
        if exact and self.attention not in EXACT:
            return self.denoiser.set_attention(AUTO, memory)
        if self.denoiser.attention != self.attention:
            self.denoiser.set_attention(self.attention)
        return self.attention

    def close(self) -> None:
        """Ends the processes on further cards, if there are any."""
        self.denoiser.close()

    @torch.inference_mode()
    def condition(
        self,
        frame: NDArray[np.uint8],
        *,
        size: str,
        frame_num: int,
        boxes: Sequence[Box] = (),
    ) -> Condition:
        """The condition of an RGB image [H, W, 3], cropped to the nearest bucket of `size`.

        `boxes` are the boxes of two speakers in the image; without them person 1 is on the left,
        person 2 on the right.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise InvalidInput(
                f"image: got {frame.dtype} {list(frame.shape)}; allowed: uint8 [height, width, 3]"
            )
        buckets = self.preset.buckets(size)
        with translate_out_of_memory(self.device, size):
            height, width = frame.shape[:2]
            bucket = nearest_bucket(height, width, buckets)
            image = resize_and_crop(frame, *bucket).to(self.device)
            return Condition(
                image_tokens=self.encode_image(image),
                latents=self.vae.condition(image, frame_num),
                frame=image,
                regions=regions((height, width), bucket, boxes),
            )

    @torch.inference_mode()
    def chunk(
        self,
        chunk: Chunk,
        *,
        # What is shown and said
        condition: Condition,
        text: Tensor,
        negative_text: Tensor | None,
        audio: Tensor,
        # What it continues from
        tail: Tail | None,
        # How it is sampled
        sampling: Sampling,
        report: Report,
        show: Show[Shown],
    ) -> tuple[Shown, Tail | None]:
        """What `show` makes of the chunk's new frames, and the tail on the CPU; None of the last.

        `text` and `negative_text` are [tokens, text_dim], the latter None unless the sampling
        `reads_negative_prompt`; `audio` [S, frame_num + 4, layers, dim]
        holds the rows that `farm.plan.audio_rows` chooses; `tail` is that of the chunk before,
        `at_cut` if a scene begins, None for the first. Raises InvalidInput for parts that do not
        fit together, OutOfMemory, GenerationFailed, and what `report` raises.
        """
        _check(chunk, condition, audio, tail, sampling)
        report("pre", 0, 1)
        height, width = condition.frame.shape[1:]
        with translate_out_of_memory(self.device, f"{height}x{width}"):
            # 1. Where it starts
            noise, generator_state = self._draw_noise(condition, tail, sampling)
            motion = self._motion_latents(condition, tail)
            colours = self._reference_colours(condition, tail)

            # 2. Denoise
            conditions = self._on_device(condition, text, negative_text, audio)
            latents = self.denoiser.denoise(
                self._sampler, noise, motion, conditions, sampling, report=report
            )
            if not latents.isfinite().all():
                raise GenerationFailed(
                    f"chunk {chunk.index} has values that are not finite numbers"
                )

            # 3. Decode
            shown, last = self._decode(latents, chunk, colours, sampling, report, show)
        if last is None:
            return shown, None
        return shown, Tail(last, generator_state, colours.cpu())

    def _draw_noise(
        self, condition: Condition, tail: Tail | None, sampling: Sampling
    ) -> tuple[Noise, Tensor]:
        """The chunk's noise and the generator's state after it, always drawn on the CPU."""
        generator = torch.Generator().manual_seed(sampling.seed)
        known = None
        if tail:
            generator.set_state(tail.generator_state)
            known = tail.motion_latents.shape[1]
        shape = condition.latents[4:].shape
        noise = self._sampler.draw(generator, shape, steps=sampling.steps, known=known)
        return noise, generator.get_state()

    def _motion_latents(self, condition: Condition, tail: Tail | None) -> Tensor:
        """The clean latents [16, g, h, w] of the image or of the frames that it continues."""
        if tail is None or not tail.motion_frame:
            return condition.latents[4:, :1].to(self.device)
        return tail.motion_latents.to(self.device)

    def _reference_colours(self, condition: Condition, tail: Tail | None) -> Tensor:
        """The colours that the chunk is matched to."""
        if tail and tail.motion_frame:
            return tail.colours
        return lab_statistics(condition.frame)

    def _on_device(
        self,
        condition: Condition,
        text: Tensor,
        negative_text: Tensor | None,
        audio: Tensor,
    ) -> ChunkConditions:
        prompts = {True: text} if negative_text is None else {True: text, False: negative_text}
        silence = torch.zeros_like(audio[None, :1])
        return ChunkConditions(
            latents=condition.latents.to(self.device),
            image=condition.image_tokens.to(self.device),
            regions=condition.regions.to(self.device)[None],
            text={branch: features.to(self.device)[None] for branch, features in prompts.items()},
            audio={
                True: audio_windows(audio.to(self.device)[None]),
                False: audio_windows(silence.to(self.device)),
            },
        )

    def _decode(
        self,
        latents: Tensor,
        chunk: Chunk,
        colours: Tensor,
        sampling: Sampling,
        report: Report,
        show: Show[Shown],
    ) -> tuple[Shown, Tensor | None]:
        """What `show` makes of the new frames, and the motion latents for the next chunk.

        The last chunk has none, and is decoded only as far as it is shown.
        """
        reference = colours.to(self.device)
        end = chunk.overlap + chunk.keep
        needed = end if chunk.last else chunk.frame_num
        piece_begins = accumulate(self.vae.frames_of_pieces(latents.shape[1]), initial=0)
        begins = [begin for begin in piece_begins if begin < needed]
        motion: Tensor | None = None

        def new_frames(pieces: Iterator[Tensor]) -> Iterator[Tensor]:
            nonlocal motion
            last: list[Tensor] = []
            report("decode", 0, len(begins))
            for done, (begin, piece) in enumerate(zip(begins, pieces, strict=False), start=1):
                frames = transfer_colours(piece.clamp(-1, 1), reference, sampling.colour_strength)
                shown = frames[:, max(0, chunk.overlap - begin) : max(0, end - begin)]
                if shown.shape[1]:
                    yield shown
                last = [torch.cat([*last, frames], dim=1)[:, -sampling.motion_frame :]]
                if done == len(begins) and not chunk.last:
                    motion = self.vae.encode(*last).cpu()
                report("decode", done, len(begins))

        made = self.vae.decode_pieces(latents, lambda pieces: show(new_frames(pieces)))
        return made, motion


def load_pipeline(
    folder: Path,
    preset: Preset,
    device: str,
    *,
    attention: str = "auto",
    attention_memory: Path | None = None,
    fold_audio: bool = False,
    variant: Variant | None = None,
    digests: Digests = UNREMEMBERED,
    gpus: int = 1,
) -> Pipeline:
    """Loads everything that a chunk needs from a checkpoint folder onto a device.

    `attention` is a backend of `farm.model.attention`, which remembers the fastest in the file
    `attention_memory`; `fold_audio` is `farm.model.folding`. The transformer starts as `variant`,
    so one that fits only quantised or streamed is never on the device as a whole. `gpus` processes,
    this one included, share its passes. Raises InvalidInput for an unknown backend,
    PipelineLoadFailed and OutOfMemory.
    """
    with translate_out_of_memory(device, preset.name):
        load = partial(
            load_denoiser, folder, preset, fold_audio=fold_audio, variant=variant, digests=digests
        )
        denoiser = load(device) if gpus == 1 else RankedDenoiser(load, device, gpus)
        kernel = denoiser.set_attention(attention, attention_memory)
        text_encoder = TextEncoder(
            load_part(folder, "text_encoder", dtype=preset.dtype_of("text_encoder")),
            load_tokenizer(folder),
            max_tokens=denoiser.transformer.config.text_len,
            device=device,
        )
        vae = load_part(folder, "vae", dtype=preset.dtype_of("vae")).to(device)
        image_dtype = preset.dtype_of("image_encoder")
        image_encoder = load_part(folder, "image_encoder", dtype=image_dtype).to(device)
        return Pipeline(
            preset=preset,
            device=device,
            denoiser=denoiser,
            attention=kernel,
            base_fingerprint=fingerprint(folder, VIDEO_PARTS, digests),
            text_fingerprint=fingerprint(folder, TEXT_PARTS, digests),
            vae=VideoAutoencoder(
                vae,
                latents_per_call=preset.latents_per_call,
                decoder_dtype=torch.float16 if device.startswith("cuda") else torch.float32,
            ),
            encode_text=text_encoder,
            encode_image=ImageEncoder(image_encoder),
        )


def _check(
    chunk: Chunk,
    condition: Condition,
    audio: Tensor,
    tail: Tail | None,
    sampling: Sampling,
) -> None:
    """Refuses parts of different chunks or jobs before they cost a step."""
    motion_frames = tail.motion_frame if tail else 0
    expected = 0 if chunk.begins_scene else chunk.overlap
    if motion_frames != expected:
        raise InvalidInput(
            f"tail: got {motion_frames} frames; chunk {chunk.index} continues from {expected}"
        )
    rows = chunk.frame_num + LOOK_BEHIND + LOOK_AHEAD
    if audio.ndim != 4 or audio.shape[1] != rows:
        raise InvalidInput(
            f"audio: got {list(audio.shape)}; "
            f"chunk {chunk.index} takes [speakers, {rows}, layers, dim]"
        )
    if audio.shape[0] not in (1, 2):
        raise InvalidInput(f"audio: got {audio.shape[0]} speakers; allowed: 1 or 2")
    frames = condition.latents.shape[1]
    latent_frames = 1 + (chunk.frame_num - 1) // 4
    if frames != latent_frames:
        raise InvalidInput(
            f"condition: got {frames} latent frames; {chunk.frame_num} frames need {latent_frames}"
        )
    motion_frame = sampling.motion_frame
    if not 0 < motion_frame <= chunk.frame_num or motion_frame % 4 != 1:
        raise InvalidInput(
            f"motion_frame: got {motion_frame}; allowed: 4n + 1 up to {chunk.frame_num}"
        )
