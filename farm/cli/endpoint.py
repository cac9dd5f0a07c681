"""Commands about serverless endpoints of a Runpod account."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from farm.cli.options import FILE, json_option, yes_option
from farm.cli.render import echo, echo_json
from farm.net.runpod import QueueApi
from farm.runpod.difference import changes, describe_changes, masked
from farm.runpod.endpoint import EndpointFile
from farm.runpod.overview import overview
from farm.runpod.rest import RestApi, endpoint_request
from farm.settings import Settings

Decorator = Callable[[Any], Any]

DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="only print the request, with secrets masked; needs no account"
)


@click.group()
def endpoint() -> None:
    """Create, change, show and delete Runpod endpoints.

    They are serverless. The key of the account is RUNPOD_API_KEY.
    examples/runpod-endpoint.json describes an endpoint.

    Example: farm endpoint create examples/runpod-endpoint.json
    """


@endpoint.command()
@click.argument("file", type=FILE)
@DRY_RUN
@json_option("print the endpoint as JSON")
def create(file: Path, dry_run: bool, as_json: bool) -> None:
    """Create the endpoint that FILE describes, and print its id.

    Example: farm endpoint create examples/runpod-endpoint.json --dry-run
    """
    described = EndpointFile.read(file)
    settings = Settings.load(os.environ)
    if dry_run:
        body = described.create_body(os.environ)
        _print_request("POST", settings, None, body, described.literals)
        return
    rest = _rest(settings)
    body = described.create_body(os.environ)
    described.check_catalog(rest.gpus())
    created = rest.create(body)
    if as_json:
        echo_json(json.dumps(masked(created), indent=2))
        return
    echo(str(created.get("id")))
    click.echo(f"FARM_BROKER_URL=runpod://{created.get('id')} submits jobs to it", err=True)


@endpoint.command()
@click.argument("endpoint_id")
@click.argument("file", type=FILE)
@DRY_RUN
@yes_option
def update(endpoint_id: str, file: Path, dry_run: bool, yes: bool) -> None:
    """Change an endpoint to what FILE describes.

    The differences are shown first. What FILE does not name stays as it is; `gpu` and `env` are
    replaced whole. Workers with the old image or environment finish their jobs first. A dry run
    prints all that FILE names, of which only what differs is sent.

    Example: farm endpoint update ENDPOINT_ID examples/runpod-endpoint.json
    """
    described = EndpointFile.read(file)
    settings = Settings.load(os.environ)
    if dry_run:
        body = described.update_body(os.environ)
        _print_request("PATCH", settings, endpoint_id, body, described.literals)
        return
    rest = _rest(settings)
    current = rest.endpoint(endpoint_id)
    changed = changes(current, described.update_body(os.environ))
    if not changed:
        click.echo("nothing differs")
        return
    described.check_catalog(rest.gpus())
    for line in describe_changes(current, changed, literals=described.literals):
        echo(line)
    if not yes:
        click.confirm("change it?", abort=True, err=True)
    rest.update(endpoint_id, changed)
    click.echo("changed")


@endpoint.command()
@click.argument("endpoint_id")
@json_option("print all of it as JSON")
def show(endpoint_id: str, as_json: bool) -> None:
    """Show an endpoint: its workers, its queue and its price.

    Workers with an older image or environment are called stale. Prices are Runpod's list prices.

    Example: farm endpoint show ENDPOINT_ID
    """
    settings = Settings.load(os.environ)
    rest = _rest(settings)
    queue = QueueApi.of_endpoint(settings.runpod_url, endpoint_id, rest.key)
    found = overview(rest, queue, endpoint_id)
    if as_json:
        echo_json(json.dumps(asdict(found), indent=2))
        return
    for line in found.lines():
        echo(line)


@endpoint.command()
@click.argument("endpoint_id")
@DRY_RUN
@yes_option
def delete(endpoint_id: str, dry_run: bool, yes: bool) -> None:
    """Delete an endpoint: its workers end, and its jobs are cancelled.

    Example: farm endpoint delete ENDPOINT_ID
    """
    settings = Settings.load(os.environ)
    if dry_run:
        _print_request("DELETE", settings, endpoint_id)
        return
    rest = _rest(settings)
    name = rest.endpoint(endpoint_id).get("name")
    if not yes:
        click.confirm(f"delete {name} ({endpoint_id}) with all its jobs?", abort=True, err=True)
    rest.delete(endpoint_id)
    click.echo("deleted")


def _rest(settings: Settings) -> RestApi:
    return RestApi(settings.runpod_rest_url, settings.runpod_key)


def _print_request(
    method: str,
    settings: Settings,
    endpoint_id: str | None,
    body: Mapping[str, Any] | None = None,
    literals: Container[str] = (),
) -> None:
    echo(endpoint_request(method, settings.runpod_rest_url, endpoint_id))
    if body is not None:
        echo_json(json.dumps(masked(body, literals=literals), indent=2))
