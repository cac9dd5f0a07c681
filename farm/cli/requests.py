"""Commands that take a request by its fields."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from farm.cli.grouped import GroupedCommand
from farm.cli.names import as_typed
from farm.cli.options import (
    check_output,
    json_option,
    output_option,
    request_fields,
    request_options,
    video_option,
)
from farm.cli.render import follow_to_end, hint, print_status, print_warnings
from farm.client import Farm, Job
from farm.client.arguments import parse_request
from farm.client.checks import check_media, check_sources
from farm.client.estimate import audio_seconds
from farm.client.farm import INLINE
from farm.client.runpod.payload import embed_files, size_warning, wrap_envelope
from farm.client.uploads import read_pipes
from farm.client.voices import is_read_by_default
from farm.errors import FarmUnreachable
from farm.job import JobRequest, resolve
from farm.job.voices import DEFAULT_VOICE
from farm.plan import frames_of
from farm.presets import preset
from farm.settings import Settings


@request_options
@click.command(cls=GroupedCommand)
@click.option("--wait", is_flag=True, help="show the progress until the job ends")
@video_option("write the video to this file, or into this folder (implies --wait)")
@click.option("--inline", is_flag=True, help="run the job in this process, without a farm")
@click.option("--dry-run", is_flag=True, help="only check the request and estimate its cost")
@json_option(
    "print the job's status as JSON; with --wait its final one, with --dry-run its estimate"
)
def submit(
    file: Path | None,
    wait: bool,
    output: str | None,
    inline: bool,
    dry_run: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Submit a job and print its id.

    Example: farm submit --image face.png --audio voice.wav -o out.mp4
    """
    with as_typed(file, options):
        fields = request_fields(file, options)
        check_output(output, file, fields)
        if dry_run:
            farm = Farm(INLINE) if inline else estimating_farm()
            estimated = farm.estimate(fields)
            click.echo(json.dumps(asdict(estimated)) if as_json else str(estimated))
            print_warnings([] if as_json else caution_of(farm, fields), err=True)
            return
        settings = Settings.load(os.environ)
        parse_request(fields, {}, settings)  # mistakes first: they need no farm
        job = _submitted(fields, settings, inline=inline, as_json=as_json)
    if not as_json:
        click.echo(job.id)
    # An inline job ends with this process, so it is always followed.
    if wait or output or inline:
        follow_to_end(job, output, as_json)
    elif as_json:
        print_status(job.status(), as_json)
    else:
        print_warnings(job.status().warnings, err=True)
        hint(f"farm watch {job.id}, then farm result {job.id} -o FILE")


def _submitted(
    fields: Mapping[str, Any], settings: Settings, *, inline: bool, as_json: bool
) -> Job:
    """The job of a request; without a farm its files are checked all the same."""
    try:
        farm = Farm(INLINE if inline else None)
        # Asked before: a broker that is lost now has not taken the job.
        caution = [] if as_json else list(caution_of(farm, fields))
        job = farm.submit(fields)
    except FarmUnreachable:
        check_sources(fields, settings)
        raise
    print_warnings(caution, err=True)
    return job


def caution_of(farm: Farm, fields: Mapping[str, Any]) -> Iterator[str]:
    """What the job's model is good for, if that is trials, and the voice that was not chosen."""
    model = preset(fields.get("model") or farm.models()[0])
    if model.for_trials:
        yield f"the model {model.name} is good for {model.good_for}"
    if is_read_by_default(fields):
        yield f"no voice is given, so {DEFAULT_VOICE} reads the text; `farm voices` lists others"


def estimating_farm() -> Farm:
    """The farm; if none is up, one of this process, whose estimates are the reference card's."""
    try:
        return Farm()
    except FarmUnreachable:
        return Farm(INLINE)


@request_options
@click.command(cls=GroupedCommand)
@click.option(
    "--upload",
    is_flag=True,
    help="upload files to the farm's store and refer to them by store:// URL",
)
@click.option(
    "--envelope", is_flag=True, help='wrap it for Runpod: {"input": the request, "policy": limits}'
)
@click.option(
    "--execution-s", type=click.IntRange(5), metavar="N", help="policy: longest run in seconds"
)
@click.option(
    "--ttl-s",
    type=click.IntRange(10),
    metavar="N",
    help="policy: longest wait and run together in seconds",
)
@output_option("write the request to this file instead")
def payload(
    file: Path | None,
    upload: bool,
    envelope: bool,
    execution_s: int | None,
    ttl_s: int | None,
    output: Path | None,
    **options: str | None,
) -> None:
    """Validate a request and print it as JSON.

    It is ready to be posted: files are embedded as data URIs. Runpod's /run accepts 10 MB, its
    /runsync 20 MB.

    Example: farm payload --image face.png --text "hello" --envelope
    """
    with as_typed(file, options):
        settings = Settings.load(os.environ)
        fields = request_fields(file, options)
        check_output(output, file, fields)
        request = read_pipes(parse_request(fields, {}, settings))
        resolved = resolve(request, preset(request.model or settings.presets[0]))
        audio_s = audio_seconds(resolved, check_media(resolved, settings))
        print_warnings(resolved.cut(frames_of(audio_s)), err=True)
        packed = Farm(INLINE).upload(request) if upload else embed_files(request)
    body = packed.model_dump(mode="json", exclude_unset=True)
    wrapped = bool(envelope or execution_s or ttl_s)
    if wrapped:
        body = wrap_envelope(body, execution_s=execution_s, ttl_s=ttl_s)
    text = json.dumps(body, indent=2, ensure_ascii=False)
    warning = size_warning(text) if wrapped else None
    if warning:
        click.echo(f"note: {warning}", err=True)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
    else:
        click.echo(text)


@click.command()
def schema() -> None:
    """Print the job contract as JSON Schema.

    Example: farm schema > job.schema.json
    """
    click.echo(json.dumps(JobRequest.model_json_schema(), indent=2))
