"""The denoise loop: from noise to the latents of a chunk, by passes of the transformer.

Shapes: T latent frames, h w latent height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from farm.model.attention import set_attention_backend
from farm.model.block_attention import Kept, fold_audio_attention
from farm.model.caching import BlockCache, TeaCache
from farm.model.checkpoints import load_part
from farm.model.guidance import Apg, Branch, Guidance, branches
from farm.model.sampler import Noise, Sampler, without_last_step
from farm.model.team import Team
from farm.model.tokens import RankGroup
from farm.model.transformer import InfiniteTalkTransformer
from farm.model.variant import Variant, Variants
from farm.model.weights.fingerprint import UNREMEMBERED, Digests
from farm.model.weights.tensorfile import part_tensors
from farm.presets import Preset

Report = Callable[[str, int, int], None]
"""`report(stage, done, total)`, with stage `pre`, `sampling` or `decode`; may raise Cancelled."""


@dataclass(frozen=True)
class Sampling:
    """How a video is sampled; the same for all chunks of a job."""

    steps: int = 40
    shift: float = 7.0
    text_scale: float = 5.0
    audio_scale: float = 4.0
    colour_strength: float = 1.0
    motion_frame: int = 9
    seed: int = 42
    skip_last_step: bool = False
    """Saves one of `steps` steps; the schedule's last step changes the video by about 1 %."""
    apg: Apg | None = None
    teacache: TeaCache | None = None

    @property
    def reads_negative_prompt(self) -> bool:
        """Whether one of the passes is without the prompt."""
        passes, _ = branches(self.text_scale, self.audio_scale)
        return any(not branch.prompt for branch in passes)


@dataclass(frozen=True)
class ChunkConditions:
    """The conditions of one chunk, on the device."""

    latents: Tensor
    """[4 + 16, T, h, w]"""
    image: Tensor
    """[1, 257, image_dim]"""
    regions: Tensor
    """[1, 3, (h/2)(w/2)]"""
    text: Mapping[bool, Tensor]
    """[1, tokens, text_dim] by `Branch.prompt`."""
    audio: Mapping[bool, tuple[Tensor, Tensor]]
    """The windows of the first and of the later latent frames by `Branch.audio`."""


class Denoiser:
    """A transformer on a device, and the loop that calls it; `load_denoiser` makes one."""

    def __init__(
        self, transformer: InfiniteTalkTransformer, variants: Variants, device: str
    ) -> None:
        self.transformer = transformer
        self.device = device
        self.team = Team()
        self.attention: str | None = None
        """The kernel that was set."""
        self._variants = variants

    def fingerprint(self, variant: Variant) -> str:
        """As `Variants.fingerprint`."""
        return self._variants.fingerprint(variant)

    def switch(self, variant: Variant) -> bool:
        """As `Variants.switch`."""
        return self._variants.switch(variant)

    def set_attention(self, name: str, memory: Path | None = None) -> str:
        """As `set_attention_backend`."""
        self.attention = set_attention_backend(self.transformer, name, self.device, memory)
        return self.attention

    def close(self) -> None:
        """Ends nothing here: there are no other processes."""

    @torch.inference_mode()
    def denoise(
        self,
        sampler: Sampler,
        noise: Noise,
        motion: Tensor,
        conditions: ChunkConditions,
        sampling: Sampling,
        *,
        report: Report,
    ) -> Tensor:
        """Latents [16, T, h, w] from noise, in float32.

        The first are held to `motion` [16, g, h, w] all the way.
        """
        passes, scales = branches(sampling.text_scale, sampling.audio_scale)
        guidance = Guidance(scales, sampling.apg)
        times = sampler.timesteps(sampling.steps, sampling.shift)
        if sampling.skip_last_step:
            times = without_last_step(times)
        times = times.to(self.device)
        steps = len(times) - 1
        caches = self._block_caches(passes, times[:-1], sampling.teacache)
        known = motion.shape[1]
        kept: dict[Branch, Kept] = {}
        is_kept = not self._variants.is_streamed  # there memory is what is short
        if is_kept:
            kept = {branch: {} for branch in passes}

        def predict(
            x: Tensor, time: Tensor, shared: dict[int, Kept], branch: Branch, group: RankGroup
        ) -> Tensor:
            prediction = self.transformer(
                torch.cat([x, conditions.latents])[None],
                time[None],
                text=conditions.text[branch.prompt],
                image=conditions.image,
                audio=conditions.audio[branch.audio],
                regions=conditions.regions,
                cache=caches.get(branch),
                kept=kept.get(branch),
                of_step=shared.setdefault(group.size, {}) if is_kept else None,
                group=group,
            )
            return prediction[0]

        x = noise.initial.to(self.device)
        x[:, :known] = motion
        report("sampling", 0, steps)
        for step, time in enumerate(times[:-1]):
            shared: dict[int, Kept] = {}  # by passes of as many ranks, which have the same tokens
            velocity = guidance(self.team.predictions(passes, partial(predict, x, time, shared)))
            x = sampler.step(x, velocity, times, step, noise)
            x[:, :known] = motion
            report("sampling", step + 1, steps)
        return x

    def _block_caches(
        self, passes: Sequence[Branch], times: Tensor, teacache: TeaCache | None
    ) -> dict[Branch, BlockCache]:
        """A cache for each branch if the job uses TeaCache."""
        if teacache is None:
            return {}
        _, modulations = self.transformer.condition_embedder.time(times)
        plan = teacache.plan(modulations)
        return {branch: BlockCache(plan) for branch in passes}


def load_denoiser(
    folder: Path,
    preset: Preset,
    device: str,
    *,
    fold_audio: bool = False,
    variant: Variant | None = None,
    digests: Digests = UNREMEMBERED,
) -> Denoiser:
    """The transformer of a checkpoint folder as `variant`, on a device.

    Raises PipelineLoadFailed, and torch's error if it does not fit.
    """
    transformer = load_part(folder, "transformer", dtype=preset.dtype_of("transformer"))
    fold_audio_attention(transformer, is_folded=fold_audio)
    variants = Variants(transformer, part_tensors(folder, "transformer"), device, digests)
    variants.switch(variant or Variant())
    return Denoiser(transformer, variants, device)
