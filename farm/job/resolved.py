"""A request as a farm accepts it: with its model, and the model's defaults in what is left open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from farm.errors import all_mistakes
from farm.job.request import JobRequest
from farm.plan import FPS, Plan
from farm.presets import Mode, Preset, preset


class ResolvedRequest(JobRequest):
    """What a job is registered with: another version may have other defaults, the job keeps its."""

    model: str
    size: str
    mode: Mode
    frame_num: int
    motion_frame: int
    sample_steps: int
    sample_text_guide_scale: float
    sample_audio_guide_scale: float

    @property
    def preset(self) -> Preset:
        """The preset of its model."""
        return preset(self.model)

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

    @property
    def _lead_in(self) -> int:
        return self.motion_frame if self.preset.has_lead_in else 0


def resolve(request: JobRequest, model: Preset) -> ResolvedRequest:
    """A request for a model; raises InvalidInput for what this one was not trained for."""
    given = request.model_dump(mode="json", exclude_none=True)
    resolved = ResolvedRequest.parse({**asdict(model.defaults), **given, "model": model.name})
    with all_mistakes() as check:
        check(model.buckets, resolved.size)
        for field in model.limits:
            check(model.check, field, getattr(resolved, field))
    return resolved
