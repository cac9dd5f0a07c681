"""Commands that fetch the model's weights."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from farm.cli.options import Decorator, json_option
from farm.cli.render import echo
from farm.client.progress import byte_progress
from farm.errors import InvalidInput, PipelineLoadFailed
from farm.settings import Settings

if TYPE_CHECKING:
    from farm.model.weights.fingerprint import Digests
    from farm.presets import Preset

PATH = click.Path(path_type=Path)

LARGE = "infinitetalk-480"
PRESET = click.argument("name", metavar="[PRESET]", default=LARGE)


@click.group()
def weights() -> None:
    """Install the model's weights: pull, convert, check.

    They are installed in the folder FARM_WEIGHTS, by default in FARM_HOME. The miniature's weights
    come with the package.

    Example: farm weights pull && farm weights convert && farm weights check
    """


@weights.command()
@PRESET
@click.option(
    "--from",
    "origin",
    default="official",
    show_default=True,
    metavar="ORIGIN",
    help="whose files: official, comfyui, comfyui-fp8",
)
@click.option(
    "--speakers",
    type=click.Choice(["single", "multi"]),
    default="single",
    show_default=True,
    help="which InfiniteTalk checkpoint",
)
@click.option(
    "--only",
    multiple=True,
    metavar="ROLE",
    help="not everything: wan, infinitetalk, wav2vec; with --from comfyui also text_encoder, "
    "image_encoder, vae, tokenizer",
)
@click.option(
    "--revision",
    "revisions",
    multiple=True,
    metavar="REPOSITORY=REVISION",
    help="branch, tag or commit; by default the one that is locked, or was tried",
)
def pull(
    name: str, origin: str, speakers: str, only: tuple[str, ...], revisions: tuple[str, ...]
) -> None:
    """Download the published weights of PRESET.

    They come from the Hugging Face hub: 93 GB of the models' authors, or 30 GB of single files as
    ComfyUI has them, the large ones in eight bits (comfyui-fp8: 28 GB). Sizes and free space are
    told first; without room for the download and for the 52 GB that `convert` makes of it, nothing
    is downloaded. An interrupted download resumes. HF_HOME is where files are cached, HF_ENDPOINT
    names a mirror, HF_TOKEN authenticates. The first pull writes their commits and SHA-256 to
    PRESET.lock.json beside the weights; later ones accept nothing else. Copy it to other machines
    to pin them too. --revision locks another commit.

    Example: farm weights pull infinitetalk-480 --speakers multi
    """
    from farm.model.weights.pull import pull
    from farm.presets import preset

    chosen = dict(_parse_revision(each) for each in revisions)
    pulled = pull(
        preset(name),
        Settings.load(os.environ).weights_folder,
        origin=origin,
        speakers=speakers,
        only=only,
        revisions=chosen,
        print_line=click.echo,
    )
    for role, source in pulled.items():
        click.echo(f"{role}: {source.repository} at {source.commit}: {source.path}")
    click.echo(f"next: farm weights convert {name}, which leaves the download unneeded")


def part_option(role: str, help_text: str, envvar: str | None = None) -> Decorator:
    """An option for a part's file, or for a folder that has it."""
    return click.option(f"--{role}", type=PATH, metavar="PATH", envvar=envvar, help=help_text)


@weights.command()
@PRESET
@click.option(
    "--folder",
    "folders",
    type=PATH,
    multiple=True,
    metavar="FOLDER",
    envvar="CKPT_DIR",
    help="where the parts without an option are looked for: weights in the original or the "
    "Diffusers layout, ComfyUI's models; repeatable, the first that has a part counts",
)
@part_option("transformer", "Wan2.1-I2V-14B-480P's, or one with its audio layers")
@part_option(
    "infinitetalk", "InfiniteTalk's audio layers, or its eight-bit transformer", "INFINITETALK_DIR"
)
@part_option("text-encoder", "UMT5-XXL")
@part_option("image-encoder", "the image half of CLIP ViT-H/14")
@part_option("vae", "Wan 2.1's")
@part_option("audio-encoder", "chinese-wav2vec2-base", "WAV2VEC_DIR")
@part_option("tokenizer", "UMT5's, a folder with its tokenizer.json")
def convert(name: str, folders: tuple[Path, ...], **paths: Path | None) -> None:
    """Convert published weights for PRESET.

    The result is the folder that PRESET loads. Each PATH is a file, or a folder that has one such
    file or its shards. Files are recognised by their content, never by their names: safetensors,
    pickles (read as plain tensors) and GGUF, rounded to eight bits or fewer too. What has no option
    and is in no FOLDER is taken from the pulled weights.

    Example: farm weights convert --folder ComfyUI/models --transformer wan2.1-i2v-480p-Q8_0.gguf
    """
    from farm.model.weights.convert import convert
    from farm.model.weights.sources import chosen_sources
    from farm.presets import preset

    model = preset(name)
    root = Settings.load(os.environ).weights_folder
    given = {role: path for role, path in paths.items() if path}
    places = {f"folder {number}": path for number, path in enumerate(folders, start=1)}
    sources = chosen_sources(model, root, given | places)
    print_line = partial(echo, err=True)
    with byte_progress(Console(stderr=True)) as report:
        folder = convert(model, root, sources, report=report, print_line=print_line)
    click.echo(folder)


@weights.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH)
@click.option(
    "--preset",
    "name",
    default="infinitetalk-480",
    show_default=True,
    help="the model that they should be for",
)
@json_option("print a line of JSON per file")
def identify(paths: tuple[Path, ...], name: str, as_json: bool) -> None:
    """Say what files of weights are, by their content.

    Of a folder, what is in it. Each with the option of `farm weights convert` that takes it for the
    preset, if there is one. Only headers are read. If one cannot be read the exit status is 1.

    Example: farm weights identify ComfyUI/models
    """
    from farm.model.weights.search import findings
    from farm.model.weights.selection import expected_models, fitting_option
    from farm.presets import preset

    expected = expected_models(preset(name))
    faults = []
    for path in paths:
        found = findings(path)
        faults += found.faults + found.tokenizer_faults
        for each in found.candidates:
            option = fitting_option(each.identity, expected)
            record = {"path": str(each.path), "is": str(each.identity), "option": option}
            line = f"{each.path}: {each.identity}; {option or f'no part of {name}'}"
            click.echo(json.dumps(record)) if as_json else echo(line)
        for folder, tokens in found.tokenizers.items():
            record = {"path": str(folder), "is": f"tokenizer of {tokens} tokens"}
            line = f"{folder}: a tokenizer of {tokens} tokens"
            click.echo(json.dumps(record)) if as_json else echo(line)
    if faults:
        raise PipelineLoadFailed("; ".join(faults))


@weights.command()
@click.argument("name", metavar="[PRESET]", required=False)
@click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="FILE",
    help=f"check this LoRA file instead, for PRESET, by default {LARGE}",
)
@json_option("print a line of JSON per part, and one for their fingerprint")
def check(name: str | None, loras: tuple[str, ...], as_json: bool) -> None:
    """Check every tensor in PRESET's folder, or in a LoRA file.

    Without PRESET, those of FARM_PRESETS and all others whose weights are here. Names and shapes
    are compared with the model, without loading it, and the commits that it was converted from with
    those of PRESET.lock.json. What was rounded before it was converted is named, with the size of
    the error. The fingerprint is that of `params.weights` in results; for the first time it reads
    every byte. Of a LoRA file you see how its names are spelled and how many parameters it changes;
    one that would be applied in part is refused.

    Example: farm weights check infinitetalk-480 --lora fast.safetensors
    """
    from farm.model.weights.fingerprint import Digests
    from farm.presets import preset

    settings = Settings.load(os.environ)
    digests = Digests(settings.digests_folder)
    for file in loras:
        _check_lora(Path(file), preset(name or LARGE), digests, as_json=as_json)
    if loras:
        return
    for folder, model in _folders(settings, [preset(name)] if name else []).items():
        _check_folder(folder, model, digests, as_json=as_json)


def _folders(settings: Settings, chosen: Sequence[Preset]) -> dict[Path, Preset]:
    """The folders of the chosen models; of none, those of the models served, and what is here."""
    from farm.presets import PRESETS

    root = settings.weights_folder
    models = chosen or [
        each
        for each in PRESETS.values()
        if each.name in settings.presets or each.folder(root).is_dir()
    ]
    folders: dict[Path, Preset] = {}
    for each in models:
        folders.setdefault(each.folder(root), each)  # two may share one
    return folders


def _check_folder(folder: Path, model: Preset, digests: Digests, *, as_json: bool) -> None:
    from farm.model.weights.check import check
    from farm.model.weights.fingerprint import checkpoint_fingerprint
    from farm.model.weights.sources import read_sources

    if not as_json:
        click.echo(f"preset         {model.name}")
    for part, (tensors, size) in check(folder, model).items():
        if as_json:
            found = {"preset": model.name, "part": part, "tensors": tensors, "bytes": size}
            click.echo(json.dumps(found))
        else:
            click.echo(f"{part:14} {tensors:5} tensors {size / 1e9:8.3f} GB")
    for role, source in read_sources(folder / "sources.json").items():
        if source.rounding and as_json:
            rounded = {"preset": model.name, "role": role, "rounding": source.rounding}
            click.echo(json.dumps(rounded))
        elif source.rounding:
            echo(f"{role:14} was rounded in its source: {source.rounding}")
    fingerprint = checkpoint_fingerprint(folder, digests)
    if as_json:
        click.echo(json.dumps({"preset": model.name, "fingerprint": fingerprint}))
    else:
        click.echo(f"fingerprint    {fingerprint}")


def _check_lora(file: Path, model: Preset, digests: Digests, *, as_json: bool) -> None:
    from farm.model.lora import check_adapter

    adapter, parameters = check_adapter(file, model, digests)
    found = {
        "lora": str(file),
        "spelling": adapter.spelling,
        "tensors": len(adapter),
        "ranks": adapter.ranks,
        "changed": len(adapter.shapes),
        "parameters": parameters,
        "fingerprint": adapter.fingerprint,
    }
    if as_json:
        click.echo(json.dumps(found))
        return
    ranks = f", rank {' and '.join(map(str, adapter.ranks))}" if adapter.ranks else ""
    click.echo(f"{file}: {len(adapter)} tensors ({adapter.spelling}{ranks})")
    click.echo(f"changes        {len(adapter.shapes)} of {parameters} parameters of {model.name}")
    click.echo(f"fingerprint    {adapter.fingerprint}")


def _parse_revision(text: str) -> tuple[str, str]:
    repository, _, revision = text.partition("=")
    if not (repository and revision):
        raise InvalidInput(f"revision: got {text!r}; allowed: REPOSITORY=REVISION")
    return repository, revision
