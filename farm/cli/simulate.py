"""The command that plans a farm's size."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farm.cli.options import json_option, output_option
from farm.errors import InvalidInput
from farm.presets import PRESETS, REFERENCE_CARD

if TYPE_CHECKING:
    from farm.simulation.fleet import Fleet
    from farm.simulation.scenario import Answer, Gpu

COLUMNS = (
    ("videos/h", 9, "videos_per_hour", ",g"),
    ("steps", 6, "steps", "d"),
    ("gpu", 5, "gpu", "s"),
    ("GPUs", 7, "gpus", ",d"),
    ("GPU h", 10, "gpu_hours", ",.1f"),
    ("cost/min", 9, "cost_per_minute", ".2f"),
    ("wait p50", 9, "wait_p50_s", ",.0f"),
    ("wait p95", 9, "wait_p95_s", ",.0f"),
    ("time p95", 9, "time_p95_s", ",.0f"),
    ("idle", 6, "idle_share", ".0%"),
    ("lost", 6, "lost_chunks", ",d"),
)
"""Title, width, field and format of each."""


class Numbers(click.ParamType[tuple[float, ...]]):
    """Positive numbers, comma-separated."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            numbers = tuple(self.kind(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 10,100", param, ctx)
        if min(numbers) <= 0:
            self.fail(f"{value!r} has a number that is not above 0", param, ctx)
        return numbers


OWN = "farm"
"""The GPUs of the farm itself."""

POSITIVE = click.FloatRange(0, min_open=True)
NOT_NEGATIVE = click.FloatRange(0)


@click.command()
@click.option(
    "--videos", type=Numbers(float), default="100", metavar="N,...", help="videos an hour"
)
@click.option("--hours", type=POSITIVE, default=8, show_default=True, help="of submissions")
@click.option(
    "--pattern",
    type=click.Choice(["steady", "evening", "burst"]),
    default="steady",
    show_default=True,
    help="one rate; a day that begins at midnight, with its peak at 20:00; each hour's videos "
    "within its first minute",
)
@click.option("--seconds", type=POSITIVE, default=30, show_default=True, help="length of a video")
@click.option(
    "--model", type=click.Choice(list(PRESETS)), default="infinitetalk-480", show_default=True
)
@click.option("--size", metavar="NAME", help="of the video; by default the model's")
@click.option(
    "--steps",
    type=Numbers(int),
    metavar="N,...",
    help="denoise steps; up to 8 are counted without guidance by text, as with a distillation "
    "LoRA; by default the model's",
)
@click.option(
    "--gpu",
    "gpus",
    default="h100",
    show_default=True,
    metavar="NAME,...",
    help="h100, h200, or farm: as fast as this farm's last chunk, at FARM_GPU_PRICE_PER_H",
)
@click.option(
    "--speed", type=POSITIVE, help=f"of another GPU, as a multiple of an {REFERENCE_CARD}'s"
)
@click.option("--price", type=POSITIVE, help="of a second of one GPU")
@click.option(
    "--max-gpus",
    type=Numbers(int),
    metavar="N,...",
    help="scaled up to so many; by default GPUs that stay, as few as keep --target-wait",
)
@click.option("--min-gpus", type=click.IntRange(0), default=0, help="GPUs that never leave")
@click.option(
    "--target-wait",
    type=POSITIVE,
    default=600,
    show_default=True,
    help="seconds: 95 of 100 videos begin within it; scaled, no more GPUs come than would do "
    "the work that is left within it",
)
@click.option(
    "--cold-start",
    type=NOT_NEGATIVE,
    default=180,
    show_default=True,
    help="seconds from the autoscaler's decision to the first chunk: node, image, model",
)
@click.option(
    "--idle-exit", type=NOT_NEGATIVE, default=300, show_default=True, help="FARM_IDLE_EXIT_S"
)
@click.option(
    "--losses", type=NOT_NEGATIVE, default=0, help="spot nodes lost, for each hour of one"
)
@click.option("--budget", type=POSITIVE, help="money an hour, which bounds the GPUs")
@click.option(
    "--prepare",
    type=NOT_NEGATIVE,
    default=10,
    show_default=True,
    help="seconds of download and embed before the first chunk",
)
@click.option("--seed", type=int, default=0, help="another one gives other arrivals")
@json_option("print one line of JSON per row")
@output_option("write a plot of the last row as SVG")
def simulate(
    videos: tuple[float, ...],
    steps: tuple[int, ...] | None,
    gpus: str,
    max_gpus: tuple[int, ...] | None,
    as_json: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Say how many GPUs a load needs, and what they cost.

    It also says how long callers wait. Nothing is run: submissions, chunks, the autoscaler and lost
    nodes are simulated, with the seconds of a chunk that were measured, or this farm's own. One row
    for each combination of the lists. Waits are from the submission to the first chunk, times to
    the end, both in seconds; the cost is that of one minute of video, in the currency of the price.

    Example: farm simulate --videos 10,100,1000 --steps 40,8,4
    """
    from farm.simulation.plot import svg

    if not as_json:
        click.echo("".join(f"{title:>{width}}" for title, width, _, _ in COLUMNS))
    shown = (steps or (None,), tuple(gpus.split(",")), videos, max_gpus or (None,))
    for step, gpu, per_hour, most in product(*shown):
        row, found = _row(step, gpu, per_hour, most, options)
        click.echo(json.dumps(row) if as_json else _line(row))
    if output:
        output.write_text(svg(found.samples, _title(row, options)))


def _row(
    steps: int | None, gpu: str, per_hour: float, max_gpus: int | None, options: dict[str, Any]
) -> tuple[dict[str, Any], Answer]:
    from farm.simulation import scenario as simulation

    chosen = _gpu(gpu, options)
    video = simulation.make_video(
        options["model"],
        steps=steps,
        size=options["size"],
        seconds=options["seconds"],
        gpu=chosen,
        prepare_s=options["prepare"],
    )
    question = simulation.Scenario(
        pattern=options["pattern"],
        per_hour=per_hour,
        hours=options["hours"],
        video=video,
        gpu=chosen,
        fleet=_fleet(max_gpus, chosen, options),
        target_s=options["target_wait"],
        seed=options["seed"],
    )
    found = simulation.answer(question)
    given = {
        "videos_per_hour": per_hour,
        "steps": steps or PRESETS[options["model"]].defaults.sample_steps,
        "gpu": gpu,
        "chunks": video.chunks,
        "chunk_s": video.chunk_s,
    }
    return given | {
        name: value for name, value in asdict(found).items() if name != "samples"
    }, found


def _fleet(max_gpus: int | None, gpu: Gpu, options: dict[str, Any]) -> Fleet | None:
    """GPUs that come and go; None for GPUs that stay."""
    from farm.simulation.fleet import Fleet
    from farm.simulation.scenario import within_budget

    _check_scaling(max_gpus, options)
    if max_gpus is None and options["budget"] is None:
        return None
    scaled = Fleet(
        max_gpus=max_gpus or 10_000,
        min_gpus=options["min_gpus"],
        cold_start_s=options["cold_start"],
        idle_exit_s=options["idle_exit"],
        target_s=options["target_wait"],
        losses_per_hour=options["losses"],
    )
    return within_budget(scaled, gpu, options["budget"])


def _check_scaling(max_gpus: int | None, options: dict[str, Any]) -> None:
    """Raises InvalidInput for options of a fleet that scales beside one that does not."""
    least = options["min_gpus"]
    if max_gpus is not None and least > max_gpus:
        raise InvalidInput(f"min-gpus: got {least}; allowed: 0 to max-gpus, {max_gpus}")
    for name in ("min_gpus", "losses"):
        if options[name] and max_gpus is None and options["budget"] is None:
            raise InvalidInput(f"{name.replace('_', '-')}: allowed: only with max-gpus or budget")


def _gpu(name: str, options: dict[str, Any]) -> Gpu:
    from farm.simulation.scenario import GPUS, Gpu

    known = _own_gpu(options["model"], options["price"]) if name == OWN else GPUS.get(name)
    if known is None and not (options["speed"] and options["price"]):
        allowed = f"{', '.join(GPUS)}, {OWN}, or any with --speed and --price"
        raise InvalidInput(f"gpu: got {name!r}; allowed: {allowed}")
    return Gpu(
        options["speed"] or (known.speed if known else 1.0),
        options["price"] or (known.price_per_s if known else 0.0),
    )


def _own_gpu(model: str, price_per_s: float | None) -> Gpu:
    """A gpu worker of the farm with all its cards, as fast as its last chunk of the model."""
    from farm.client import Farm
    from farm.simulation.scenario import Gpu

    farm = Farm()
    pace = farm.context.registry.steps.pace(model)
    price_per_h = farm.context.settings.gpu_price_per_h
    if model not in farm.models() or not (pace.is_measured and pace.ratio):
        raise InvalidInput(f"gpu: got {OWN!r}, which has made no chunk with {model} yet")
    if price_per_s is None and price_per_h is None:
        raise InvalidInput(
            f"gpu: got {OWN!r} without a price; give --price or FARM_GPU_PRICE_PER_H"
        )
    return Gpu(1 / pace.ratio, pace.cards * (price_per_h or 0) / 3600)


def _line(row: dict[str, Any]) -> str:
    return "".join(f"{format(row[field], form):>{width}}" for _, width, field, form in COLUMNS)


def _title(row: dict[str, Any], options: dict[str, Any]) -> str:
    return (
        f"{row['videos_per_hour']:,g} videos an hour ({options['pattern']}), "
        f"{options['model']}, {row['steps']} steps, {row['gpu'].upper()}"
    )
