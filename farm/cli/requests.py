"""Commands that take a request by its fields."""

from __future__ import annotations

import json
from pathlib import Path

import click

from farm.cli.options import json_option, output_option, request_fields, request_options
from farm.cli.render import see_through, show
from farm.client import Farm
from farm.client.estimate import estimate
from farm.client.farm import INLINE
from farm.client.runpod import embed_files, size_warning, wrap_envelope
from farm.errors import DownloadFailed, InvalidInput
from farm.job import JobRequest


@request_options
@click.command()
@click.option("--wait", is_flag=True, help="show the progress until the job ends")
@output_option("write the video here (implies --wait)")
@click.option("--here", is_flag=True, help="run the job in this process, without a farm")
@json_option("print its status as JSON instead; after --wait the last one")
def submit(
    file: Path | None,
    wait: bool,
    output: Path | None,
    here: bool,
    as_json: bool,
    **words: str | None,
) -> None:
    """Hand in a job and print its id.

    Example: farm submit --image portrait.png --audio speech.wav --prompt "a woman talks" -o talking.mp4
    """
    job = Farm(INLINE if here else None).submit(request_fields(file, words))
    if not as_json:
        click.echo(job.id)
    if wait or output or here:
        see_through(job, output, as_json)
    elif as_json:
        show(job.status(), as_json)


@request_options
@click.command()
@click.option(
    "--upload",
    is_flag=True,
    help="put files into the farm's store and name them store://...; else they go along",
)
@click.option(
    "--envelope", is_flag=True, help='for Runpod: {"input": the request, "policy": its limits}'
)
@click.option(
    "--execution-s", type=click.IntRange(5), metavar="N", help="policy: seconds that it may run"
)
@click.option(
    "--ttl-s",
    type=click.IntRange(10),
    metavar="N",
    help="policy: seconds that it may wait and run in all",
)
@output_option("write it here instead")
def payload(
    file: Path | None,
    upload: bool,
    envelope: bool,
    execution_s: int | None,
    ttl_s: int | None,
    output: Path | None,
    **words: str | None,
) -> None:
    """Print a request as JSON, ready to be posted, after it was checked together with the files that it names.

    Files go along as data URIs. Runpod's /run takes 10 MB, its /runsync 20 MB.

    Example: farm payload --image portrait.png --audio speech.wav --prompt "a woman talks" --envelope -o request.json
    """
    request = JobRequest.parse(request_fields(file, words))
    try:
        estimate(request)
    except DownloadFailed as error:  # what lies here is the caller's, and is not downloaded
        raise InvalidInput(error.message) from error
    packed = Farm(INLINE).upload(request) if upload else embed_files(request)
    fields = packed.model_dump(mode="json", exclude_unset=True)
    wrapped = bool(envelope or execution_s or ttl_s)
    told = wrap_envelope(fields, execution_s=execution_s, ttl_s=ttl_s) if wrapped else fields
    text = json.dumps(told, indent=2, ensure_ascii=False)
    if wrapped and (note := size_warning(text)):
        click.echo(f"note: {note}", err=True)
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
