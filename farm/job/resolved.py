"""A request as a farm accepts it: with its model, and the model's defaults in what is left open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from farm.errors import all_mistakes
from farm.job.request import MAX_FRAMES, STREAMING_FRAMES, FrameLimit, JobRequest, Prompt
from farm.plan import FPS, Plan
from farm.presets import Preset, preset


class ResolvedRequest(JobRequest):
    """What a job is registered with: another version may have other defaults, the job keeps its."""

    prompt: Prompt
    model: str
    size: str
    mode: Literal["clip", "streaming"]
    frame_num: int
    max_frame_num: FrameLimit = STREAMING_FRAMES
    motion_frame: int
    sample_steps: int
    sample_text_guide_scale: float
    sample_audio_guide_scale: float
    use_teacache: bool = False

    @property
    def preset(self) -> Preset:
        """The preset of its model."""
        return preset(self.model)

    @property
    def is_exact(self) -> bool:
        """Whether no worker may trade exactness for speed by itself."""
        return self.quality == "best"

    @property
    def max_frames(self) -> int:
        """The most frames that the video may have: those of one chunk in mode `clip`."""
        return self.frame_num - self._lead_in if self.mode == "clip" else self.max_frame_num

    def plan(self, frames: int, cuts: Sequence[int] = ()) -> Plan:
        """The chunks of a video of that many frames, with scenes that begin at `cuts`."""
        return Plan(frames, self.frame_num, self.motion_frame, tuple(cuts), self._lead_in)

    def plan_of(self, seconds: float) -> Plan:
        """The chunks of a video with a voice of that length, in one scene."""
        return self.plan(min(max(1, int(seconds * FPS)), self.max_frames))

    def cut(self, spoken_frames: int | None) -> list[str]:
        """The warning about what the video loses of the voice, if it is known that it does."""
        if spoken_frames is None or spoken_frames <= self.max_frames:
            return []
        cause = "limited by max_frame_num"
        if self.mode == "clip":
            cause = "mode clip makes one chunk; use mode auto for all of it"
        return [
            f"the voice lasts {spoken_frames / FPS:.2f} s, "
            f"the video ends after {self.max_frames / FPS:.2f} s ({cause})"
        ]

    @property
    def _lead_in(self) -> int:
        return self.motion_frame if self.preset.has_lead_in else 0


def resolve(request: JobRequest, model: Preset) -> ResolvedRequest:
    """A request for a model; raises InvalidInput for what this one was not trained for."""
    given = request.model_dump(mode="json", exclude_none=True)
    if request.mode in (None, "auto"):
        given = {"max_frame_num": MAX_FRAMES, **given, "mode": "streaming"}
    open_fields = {**asdict(model.defaults), **model.fields_of(request.quality)}
    resolved = ResolvedRequest.parse({**open_fields, **given, "model": model.name})
    with all_mistakes() as check:
        check(model.buckets, resolved.size)
        for field in model.limits:
            check(model.check, field, getattr(resolved, field))
    return resolved
