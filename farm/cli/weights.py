"""Commands that fetch the model's weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
from rich.console import Console

from farm.cli.options import json_option
from farm.client.progress import metered
from farm.errors import InvalidInput
from farm.settings import Settings

PRESET = click.argument(
    "name", metavar="[PRESET]", envvar="FARM_PRESET", default="infinitetalk-480"
)


@click.group()
def weights() -> None:
    """Fetch the model's weights: pull, then convert, then check.

    They end in the folder FARM_WEIGHTS, or in FARM_HOME. The miniature's come with the package and need none of this.

    Example: farm weights pull && farm weights convert && farm weights check
    """


@weights.command()
@PRESET
@click.option(
    "--speakers",
    type=click.Choice(["single", "multi"]),
    default="single",
    show_default=True,
    help="which InfiniteTalk",
)
@click.option(
    "--revision",
    "revisions",
    multiple=True,
    metavar="REPOSITORY=REVISION",
    help="branch, tag or commit; else main",
)
def pull(name: str, speakers: str, revisions: tuple[str, ...]) -> None:
    """Download the published weights of PRESET from the hub; started again, it goes on where it stopped.

    HF_HOME says where they are kept, HF_ENDPOINT names a mirror, HF_TOKEN signs in.

    Example: farm weights pull infinitetalk-480 --speakers multi
    """
    from farm.model.presets import preset
    from farm.model.weights.pull import pull

    chosen = dict(_revision(each) for each in revisions)
    folder = Settings.load(os.environ).weights_folder
    for source in pull(
        preset(name), folder, speakers=speakers, revisions=chosen, tell=click.echo
    ).values():
        click.echo(f"{source.repository} at {source.commit}: {source.path}")
    click.echo(f"next: farm weights convert {name}")


@weights.command()
@PRESET
@click.option(
    "--wan",
    envvar="CKPT_DIR",
    metavar="FOLDER",
    help="Wan2.1-I2V-14B-480P, original or Diffusers layout",
)
@click.option(
    "--infinitetalk",
    envvar="INFINITETALK_DIR",
    metavar="FILE",
    help="InfiniteTalk's, or an eight-bit file",
)
@click.option("--wav2vec", envvar="WAV2VEC_DIR", metavar="FOLDER", help="chinese-wav2vec2-base")
def convert(name: str, **paths: str | None) -> None:
    """Make the folder that PRESET is loaded from out of published weights; by default those that were pulled.

    Example: farm weights convert --wan Wan2.1-I2V-14B-480P --infinitetalk infinitetalk.safetensors
    """
    from farm.model.presets import preset
    from farm.model.weights.convert import convert
    from farm.model.weights.sources import chosen_sources

    model, root = preset(name), Settings.load(os.environ).weights_folder
    sources = chosen_sources(
        model, root, {role: Path(path) for role, path in paths.items() if path}
    )
    with metered(Console(stderr=True)) as report:
        folder = convert(model, root, sources, report=report)
    click.echo(folder)


@weights.command()
@PRESET
@json_option("print each part as JSON Lines")
def check(name: str, as_json: bool) -> None:
    """Compare every tensor of PRESET's folder with the model, by name and shape, without loading it.

    Example: farm weights check miniature
    """
    from farm.model.presets import preset
    from farm.model.weights.check import check

    model = preset(name)
    folder = model.folder(Settings.load(os.environ).weights_folder)
    for part, (tensors, size) in check(folder, model).items():
        told = {"part": part, "tensors": tensors, "bytes": size}
        click.echo(
            json.dumps(told) if as_json else f"{part:14} {tensors:5} tensors {size / 1e9:8.3f} GB"
        )


def _revision(text: str) -> tuple[str, str]:
    repository, _, revision = text.partition("=")
    if not (repository and revision):
        raise InvalidInput(f"revision: got {text!r}; allowed: NAME=VALUE")
    return repository, revision
