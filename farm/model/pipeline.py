"""One chunk of video from its conditions: the denoise loop and what stands before and after it.

Shapes: T latent frames and h w latent sides (an eighth of the pixels'), F video frames, H W pixels, S speakers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from farm.errors import GenerationFailed, InvalidInput, OutOfMemory
from farm.model.attention import attend_with
from farm.model.audio import windows
from farm.model.caching import Shortcut, TeaCache
from farm.model.checkpoints import load_part, load_tokenizer
from farm.model.colour import statistics, transfer
from farm.model.guidance import Apg, Branch, Guidance, branches
from farm.model.image import ImageEncoder, bucket, fitted
from farm.model.presets import Preset
from farm.model.schedule import timesteps
from farm.model.speakers import Box, regions
from farm.model.stored import stored_part
from farm.model.text import TextEncoder
from farm.model.transformer import InfiniteTalkTransformer
from farm.model.vae import VideoAutoencoder
from farm.model.variant import Variant, Variants
from farm.plan import LOOK_AHEAD, LOOK_BEHIND, Chunk

Report = Callable[[str, int, int], None]
"""`report(stage, done, total)`, with stage `pre`, `sampling` or `decode`; may raise Cancelled."""


@dataclass(frozen=True)
class Sampling:
    """How a job is drawn; the same for all its chunks."""

    steps: int = 40
    shift: float = 7.0
    text_scale: float = 5.0
    audio_scale: float = 4.0
    colour_strength: float = 1.0
    motion_frame: int = 9
    seed: int = 42
    skip_last_step: bool = False
    """The schedule's last look at the noise moves the video by about 1 %; without it one pass in `steps` is saved."""
    apg: Apg | None = None
    teacache: TeaCache | None = None


class Tensors:
    """A value that is made of tensors alone, so that a step can keep it in a file."""

    def to_tensors(self) -> dict[str, Tensor]:
        """Every field by its name, on the CPU."""
        return {name: tensor.contiguous().cpu() for name, tensor in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The value that `to_tensors` took apart."""
        return cls(**tensors)


@dataclass(frozen=True)
class Condition(Tensors):
    """What the model sees of the source picture; an image job needs one, a video job one for each chunk."""

    image_tokens: Tensor
    """[1, 257, image_dim]"""
    latents: Tensor
    """[4 + 16, T, h, w]: the mask, then the latents of the picture and of mid grey."""
    frame: Tensor
    """[3, H, W] in [-1, 1], the picture as it was cut."""
    regions: Tensor
    """[3, (h/2)(w/2)]: where person 1, person 2 and the background are; looked at if two speakers are heard."""


@dataclass(frozen=True)
class Tail(Tensors):
    """What a chunk leaves to the next; with it, the next one comes out the same bit for bit whoever makes it."""

    motion_frames: Tensor
    """[3, motion_frame, H, W] float32 in [-1, 1]: the last frames, colours already corrected; none after a cut."""
    generator_state: Tensor
    """uint8, of the job's random generator."""
    colours: Tensor
    """[2, 3]: Lab mean and deviation of the scene's first picture."""

    def cut(self) -> Self:
        """What a new scene takes from it: the random generator goes on, no frame does."""
        return replace(self, motion_frames=self.motion_frames[:, :0])

    @property
    def shown(self) -> bool:
        """Whether the next chunk goes on from frames."""
        return self.motion_frames.shape[1] > 0


@dataclass(frozen=True)
class Pipeline:
    """A loaded model; `load_pipeline` makes one."""

    preset: Preset
    device: str
    transformer: InfiniteTalkTransformer
    variants: Variants
    vae: VideoAutoencoder
    encode_text: Callable[[str], Tensor]
    """A prompt to its features [tokens, text_dim]."""
    encode_image: Callable[[Tensor], Tensor]
    """A picture [3, H, W] in [-1, 1] to its tokens [1, 257, image_dim]."""
    attention: str = "native"
    """The kernel of the transformer's attentions, by diffusers' name."""

    def become(self, variant: Variant) -> bool:
        """Whether the transformer had to change for the variant; InvalidInput or PipelineLoadFailed say why not."""
        with _memory(self.device, f"{self.preset.name} as {variant}"):
            return self.variants.switch(variant)

    @torch.inference_mode()
    def condition(
        self,
        frame: NDArray[np.uint8],
        *,
        size: str,
        frame_num: int,
        boxes: Sequence[Box] = (),
    ) -> Condition:
        """The condition of an RGB picture [H, W, 3], cut to the bucket of `size` that its shape is nearest to.

        `boxes` are two speakers' places in the picture; without them person 1 is on the left, person 2 on the right.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise InvalidInput(
                f"the picture is {frame.dtype} {list(frame.shape)}; uint8 [height, width, 3] is wanted"
            )
        if size not in self.preset.sizes:
            raise InvalidInput(
                f"size is {size!r}; {self.preset.name} draws {', '.join(self.preset.sizes)}"
            )
        with _memory(self.device, size):
            cut = bucket(frame.shape[0], frame.shape[1], self.preset.sizes[size])
            picture = fitted(frame, *cut).to(self.device)
            return Condition(
                image_tokens=self.encode_image(picture),
                latents=self.vae.condition(picture, frame_num),
                frame=picture,
                regions=regions((frame.shape[0], frame.shape[1]), cut, boxes),
            )

    @torch.inference_mode()
    def chunk(
        self,
        chunk: Chunk,
        *,
        condition: Condition,
        text: Tensor,
        negative_text: Tensor,
        audio: Tensor,
        tail: Tail | None,
        sampling: Sampling,
        report: Report,
    ) -> tuple[Tensor, Tail]:
        """The chunk's new frames [3, keep, H, W] in [-1, 1] on the CPU, and the tail for the next chunk.

        `text` and `negative_text` are [tokens, text_dim]; `audio` [S, frame_num + 4, layers, dim] holds the rows that
        `farm.plan.audio_rows` chooses; `tail` is that of the chunk before, cut if a scene begins, None for the first.
        Raises InvalidInput for parts that do not fit together, OutOfMemory, GenerationFailed, and what `report` raises.
        """
        _check(chunk, condition, audio, tail, sampling)
        report("pre", 0, 1)
        with _memory(self.device, f"{condition.frame.shape[1]}x{condition.frame.shape[2]}"):
            noise, generator_state = draw_noise(condition.latents, tail, sampling)
            motion = self._motion(condition, tail)
            colours = tail.colours if tail and tail.shown else statistics(condition.frame)

            latents = self._denoise(
                noise,
                motion,
                condition,
                text,
                negative_text,
                audio,
                sampling,
                report,
            )
            if not latents.isfinite().all():
                raise GenerationFailed(
                    f"chunk {chunk.index} came out with values that are not finite numbers"
                )

            report("decode", 0, 1)
            frames = transfer(
                self.vae.decode(latents),
                colours.to(self.device),
                sampling.colour_strength,
            ).cpu()
            report("decode", 1, 1)
        new = frames[:, chunk.overlap : chunk.overlap + chunk.keep]
        return new, Tail(
            frames[:, -sampling.motion_frame :].clone(),
            generator_state,
            colours.cpu(),
        )

    def _motion(self, condition: Condition, tail: Tail | None) -> Tensor:
        """The clean latents [16, g, h, w] that the chunk begins with: the picture, or the frames shown last."""
        if tail is None or not tail.shown:
            return condition.latents[4:, :1].to(self.device)
        return self.vae.encode(tail.motion_frames.to(self.device))

    def _denoise(
        self,
        noise: Tensor,
        motion: Tensor,
        condition: Condition,
        text: Tensor,
        negative_text: Tensor,
        audio: Tensor,
        sampling: Sampling,
        report: Report,
    ) -> Tensor:
        """From noise [16, T, h, w] to latents, in float32; the first latents are held to `motion` all the way."""
        wanted, scales = branches(sampling.text_scale, sampling.audio_scale)
        guidance = Guidance(scales, sampling.apg)
        times = timesteps(sampling.steps, sampling.shift, skip_last=sampling.skip_last_step).to(
            self.device
        )
        steps = len(times) - 1
        shortcuts = self._shortcuts(wanted, times[:-1], sampling.teacache)
        known = motion.shape[1]
        context = condition.latents.to(self.device)
        places = condition.regions.to(self.device)[None]
        image = condition.image_tokens.to(self.device)
        texts = {
            True: text.to(self.device)[None],
            False: negative_text.to(self.device)[None],
        }
        sounds = {
            True: audio.to(self.device)[None],
            False: torch.zeros_like(audio[None, :1]).to(self.device),
        }
        voices = {sound: windows(rows) for sound, rows in sounds.items()}

        def predict(x: Tensor, time: Tensor, branch: Branch) -> Tensor:
            seen = torch.cat([x, context])[None]
            heard = voices[branch.sound]
            read = texts[branch.prompt]
            shortcut = shortcuts.get(branch)
            return self.transformer(
                seen,
                time[None],
                text=read,
                image=image,
                audio=heard,
                regions=places,
                shortcut=shortcut,
            )[0]

        x = noise.to(self.device)
        x[:, :known] = motion
        report("sampling", 0, steps)
        for step, (time, next_time) in enumerate(pairwise(times)):
            velocity = guidance([predict(x, time, branch) for branch in wanted])
            x = x + velocity * (next_time - time) / 1000
            x[:, :known] = motion
            report("sampling", step + 1, steps)
        return x

    def _shortcuts(
        self, wanted: Sequence[Branch], times: Tensor, teacache: TeaCache | None
    ) -> dict[Branch, Shortcut]:
        """Each branch's way round the blocks, if the job wants one."""
        if teacache is None:
            return {}
        _, modulations = self.transformer.condition_embedder.time(times)
        plan = teacache.plan(modulations)
        return {branch: Shortcut(plan) for branch in wanted}


def load_pipeline(
    folder: Path,
    preset: Preset,
    device: str,
    *,
    attention: str = "auto",
    variant: Variant | None = None,
) -> Pipeline:
    """Everything that a chunk needs, from a checkpoint folder onto a device; PipelineLoadFailed names what is wrong.

    `attention` is a backend of `farm.model.attention`; the transformer starts as `variant`, so that one which fits
    only rounded or streamed is never on the device as a whole.
    """
    with _memory(device, preset.name):
        transformer = load_part(folder, "transformer", dtype=preset.dtype)
        variants = Variants(transformer, stored_part(folder, "transformer"), device)
        variants.switch(variant or Variant())
        kernel = attend_with(transformer, attention, device)
        text_encoder = load_part(folder, "text_encoder", dtype=preset.dtype)
        tokenizer = load_tokenizer(folder)
        max_tokens = transformer.config.text_len
        return Pipeline(
            preset=preset,
            device=device,
            transformer=transformer,
            variants=variants,
            attention=kernel,
            vae=VideoAutoencoder(
                load_part(folder, "vae", dtype="float32").to(device),
                latents_in_a_call=preset.latents_in_a_call,
            ),
            encode_text=TextEncoder(text_encoder, tokenizer, max_tokens=max_tokens, device=device),
            encode_image=ImageEncoder(
                load_part(folder, "image_encoder", dtype=preset.dtype).to(device)
            ),
        )


def draw_noise(like: Tensor, tail: Tail | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The chunk's noise [16, T, h, w] and the state in which it leaves the generator, always drawn on the CPU.

    A later chunk draws on, for every step and once more, and throws that away: the original noised its motion latents
    and overwrote them before use, and its seeds are reproduced only so. After a cut there are none to draw for.
    """
    generator = torch.Generator().manual_seed(sampling.seed)
    if tail:
        generator.set_state(tail.generator_state)
    _, latent_frames, height, width = like.shape
    noise = torch.randn(16, latent_frames, height, width, generator=generator)
    if tail:
        known = 1 + (tail.motion_frames.shape[1] - 1) // 4
        for _ in range(1 + sampling.steps):
            torch.randn(16, known, height, width, generator=generator)
    return noise, generator.get_state()


def _check(
    chunk: Chunk,
    condition: Condition,
    audio: Tensor,
    tail: Tail | None,
    sampling: Sampling,
) -> None:
    """Refuses parts of different chunks or jobs before they cost a step."""
    remembered = tail.motion_frames.shape[1] if tail else 0
    rows = chunk.frame_num + LOOK_BEHIND + LOOK_AHEAD
    latent_frames = 1 + (chunk.frame_num - 1) // 4
    if remembered != chunk.overlap:
        raise InvalidInput(
            f"chunk {chunk.index} overlaps by {chunk.overlap} frames, its tail has {remembered}"
        )
    if audio.ndim != 4 or audio.shape[1] != rows:
        raise InvalidInput(
            f"the audio is {list(audio.shape)}; chunk {chunk.index} hears [speakers, {rows}, layers, dim]"
        )
    if audio.shape[0] not in (1, 2):
        raise InvalidInput(f"the audio has {audio.shape[0]} speakers; 1 or 2 can be heard")
    if (frames := condition.latents.shape[1]) != latent_frames:
        raise InvalidInput(
            f"the condition has {frames} latent frames; {chunk.frame_num} frames need {latent_frames}"
        )
    if not 0 < sampling.motion_frame <= chunk.frame_num or sampling.motion_frame % 4 != 1:
        raise InvalidInput(
            f"motion_frame is {sampling.motion_frame}; 4n + 1 up to {chunk.frame_num} is wanted"
        )


@contextmanager
def _memory(device: str, wanted: str) -> Iterator[None]:
    """Turns the device's refusal into our error; nothing is tried again at a smaller size."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
        free = (
            f"{torch.cuda.mem_get_info(device)[0] / 2**30:.1f} GiB"
            if device.startswith("cuda")
            else "too little"
        )
        raise OutOfMemory(
            f"{wanted} does not fit on {device}: {asked[1] if asked else 'more memory'} was asked for, {free} is free; "
            "choose infinitetalk-480, a lower frame_num, offload_model or quant"
        ) from error
