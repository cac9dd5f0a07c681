"""What a preset is: everything in which one model differs from another, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from farm.errors import InvalidInput

Buckets = Mapping[float, tuple[int, int]]
"""Height / width ratio to (height, width) in pixels; both are multiples of 16."""

Quality = Literal["draft", "fast", "best"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

DISTILLED_STEPS = 8
"""Up to so many steps need a distillation LoRA, with which text needs no guidance: two passes in
each step, not three.
"""

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "model"
"""The folder of the weights that come with this package."""


@dataclass(frozen=True)
class Defaults:
    """The values of a request's fields that its caller leaves to the model."""

    size: str
    frame_num: int
    motion_frame: int
    sample_steps: int
    sample_text_guide_scale: float
    sample_audio_guide_scale: float


@dataclass(frozen=True)
class Limit:
    """The values of a field that a model was trained for, the others being refused."""

    allowed: tuple[Any, ...]
    reason: str
    """Why, to follow "the model NAME"."""


REFERENCE_CARD = "H200"
REFERENCE_DAY = "2026-11-30"
"""The card of every `Cost`, and when it was measured."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one REFERENCE_CARD for a chunk of `frame_num` frames, in bfloat16 with the fastest
    exact attention (docs/lab-log.md).
    """

    frame_num: int
    pass_s: Mapping[int, float]
    """One pass of the transformer, by the number of speakers."""
    decode_s: float
    """All that follows the last pass: decoding, motion frames, H.264."""


QUANT_SHARES = {"auto": 0.81, "int8": 0.81, "fp8": 0.78}
"""What a pass takes with linears of 8 bits, as a share of `Cost.pass_s`."""


@dataclass(frozen=True)
class Preset:
    """One model: what it can generate, by which loop, and how its parts are built."""

    name: str
    good_for: str
    """Which faces it moves, for people who choose."""
    sizes: Mapping[str, Buckets]
    defaults: Defaults
    shifts: Mapping[str, float]
    """The schedule's shift for each size, unless the job names one."""
    costs: Mapping[str, Cost]
    """By size."""
    sampler: str
    """One of `farm.model.sampler.SAMPLERS`."""
    dtypes: Mapping[str, str]
    """The dtype of each part that is not loaded in float32."""
    latents_per_call: int
    """Of the autoencoder; more are faster and take more memory.

    4 at 640x640 take about 3 GB for each feature map.
    """
    qualities: Mapping[Quality, Mapping[str, Any]]
    """The fields in which a quality differs from the defaults; `best` rounds nothing to 8 bits.

    A draft takes no 8 bits either: switching to them takes longer than its few passes save.
    """
    parts: Mapping[str, Mapping[str, Any]]
    """Each part's configuration, by the name of its folder."""
    teacache: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The polynomial of `farm.model.caching` for each size; highest power first."""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    """Of a request, by field; the number of its speakers counts as one."""
    for_trials: bool = False
    """Whether `farm submit` says what it is good for: its videos are no finished work."""
    takes_videos: bool = True
    """Whether the face may be a video."""
    has_lead_in: bool = False
    """Whether a scene begins with `motion_frame` frames that are generated and not shown."""
    shipped: bool = False
    """Whether the weights come with this package; others are pulled and converted."""
    weights: str | None = None
    """The folder of the weights, if it is that of another preset."""

    def dtype_of(self, part: str) -> str:
        """The dtype that a part is stored and loaded in."""
        return self.dtypes.get(part, "float32")

    def folder(self, root: Path) -> Path:
        """The folder of the weights: within this package if they are shipped, else under `root`."""
        parent = SHIPPED_WEIGHTS if self.shipped else root
        return parent / (self.weights or self.name)

    def buckets(self, size: str) -> Buckets:
        """The shapes of videos of a size; InvalidInput if this model does not make it."""
        if size not in self.sizes:
            sizes = ", ".join(self.sizes)
            raise InvalidInput(f"size: got {size!r}; the model {self.name} makes {sizes}")
        return self.sizes[size]

    def fields_of(self, quality: Quality | None) -> Mapping[str, Any]:
        """What a quality says of fields that a request leaves open."""
        return self.qualities[quality] if quality else {}

    def check(self, field: str, value: object) -> None:
        """Raises InvalidInput for a value that this model was not trained for."""
        limit = self.limits.get(field)
        if limit and value not in limit.allowed:
            allowed = " or ".join(_shown(each) for each in limit.allowed)
            raise InvalidInput(
                f"{field}: got {_shown(value)}; "
                f"the model {self.name} {limit.reason}; allowed: {allowed}"
            )

    def missing_parts(self, folder: Path) -> list[str]:
        """The parts that a folder of this model lacks, the tokenizer among them."""
        return [part for part in (*self.parts, "tokenizer") if not (folder / part).is_dir()]

    @property
    def remedy(self) -> str:
        """The command that fetches missing weights."""
        if self.shipped:
            return "reinstall the package"
        return "run `farm weights pull`, then `farm weights convert`"


def nearest_bucket(height: int, width: int, buckets: Buckets) -> tuple[int, int]:
    """The (height, width) whose ratio is nearest to the image's.

    Of equals, the one listed first.
    """
    ratio = min(buckets, key=lambda key: abs(key - height / width))
    return buckets[ratio]


def cropped_share(height: int, width: int, buckets: Buckets) -> float:
    """The share of an image, 0 to 1, that is lost as it is cropped to its nearest bucket."""
    new_height, new_width = nearest_bucket(height, width, buckets)
    scale = max(new_height / height, new_width / width)
    return 1 - (new_height * new_width) / (scale * height * scale * width)


def _shown(value: object) -> str:
    """A value as JSON writes it, numbers and texts alike."""
    return json.dumps(value, default=str, ensure_ascii=False)
