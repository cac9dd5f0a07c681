"""Commands that run something: until Ctrl-C, or one job long."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from farm.cli.options import FILE
from farm.cli.render import see_through
from farm.client import Farm
from farm.errors import InvalidInput
from farm.job.files import read_payload
from farm.net.address import Address
from farm.settings import Settings


@click.command()
@click.option(
    "--flower",
    metavar="[ADDRESS:PORT]",
    is_flag=False,
    flag_value="127.0.0.1:5555",
    help="also run Flower, the page of messages and workers; by default on 127.0.0.1:5555",
)
def up(flower: str | None) -> None:
    """Run a whole farm on this machine: broker and workers, until Ctrl-C.

    Ctrl-C lets the workers hand back what they have in hand; a second one ends them at once. Flower listens beyond
    loopback only if FARM_FLOWER_AUTH=USER:PASSWORD is set.

    Example: farm up --flower
    """
    from farm.local.supervisor import open_supervisor

    settings, address = (
        Settings.load(os.environ),
        Address.parse(flower, field="flower") if flower else None,
    )
    click.echo("starting broker and workers ...")
    with _until_ctrl_c("the farm is down"), open_supervisor(settings, flower=address) as supervisor:
        if settings.metrics_address:
            _serve_numbers(supervisor.settings)
        click.echo(
            f"the farm is up in {settings.folder} (logs in {settings.folder / 'logs'}); Ctrl-C ends it"
        )
        if address:
            click.echo(f"Flower is at {address.url}")
        _warn_without_weights(settings)
        supervisor.supervise(click.echo)


def _warn_without_weights(settings: Settings) -> None:
    from farm.model.presets import preset

    model = preset(settings.preset)
    folder = model.folder(settings.weights_folder)
    if missing := [part for part in model.parts if not (folder / part).is_dir()]:
        click.echo(
            f"note: no video can be made yet: {folder} has no {', '.join(missing)}; {model.remedy}",
            err=True,
        )


@click.command()
@click.option("--once", is_flag=True, help="print them once instead")
def metrics(once: bool) -> None:
    """Serve the farm's numbers to Prometheus at FARM_METRICS_ADDRESS, until Ctrl-C.

    They are looked up in the broker whenever they are asked for. Workers serve their own, where they have that setting.

    Example: farm metrics --once
    """
    from farm.monitoring.exporter import FarmCollector, exposition

    settings = Settings.load(os.environ)
    if once:
        click.echo(exposition(FarmCollector(settings)), nl=False)
        return
    with _until_ctrl_c("no numbers any more"):
        _serve_numbers(settings)
        signal.pause()


def _serve_numbers(settings: Settings) -> None:
    from farm.monitoring.exporter import FarmCollector, serve

    if settings.metrics_listen_address is None:
        raise InvalidInput("FARM_METRICS_ADDRESS: not set; allowed: PORT or HOST:PORT")
    try:
        serve(FarmCollector(settings), settings.metrics_listen_address)
    except OSError as error:
        said = error.strerror or error
        raise InvalidInput(
            f"FARM_METRICS_ADDRESS: got {settings.metrics_address!r}; {said}"
        ) from error
    click.echo(f"numbers at {settings.metrics_listen_address.url}/metrics")


@click.command()
@click.option(
    "--address",
    default="127.0.0.1:7860",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="where it listens",
)
def ui(address: str) -> None:
    """Serve a page on which people make videos, until Ctrl-C.

    Beyond this machine only with FARM_UI_AUTH=USER:PASSWORD. Example: farm ui --address 127.0.0.1:8000
    """
    from farm.ui.serve import open_page

    where = Address.parse(address, field="ui")
    with _until_ctrl_c("the page is gone"), open_page(Farm(), where):
        click.echo(f"the page is at {where.url}; Ctrl-C ends it")
        signal.pause()


@click.command()
@click.argument("queue", type=click.Choice(["cpu", "gpu"]))
def worker(queue: Any) -> None:
    """Run one worker in this process's place.

    Example: farm worker gpu
    """
    from farm.local.worker import worker_command, worker_environ

    command = worker_command(queue, Settings.load(os.environ))
    os.execve(command[0], command, worker_environ(os.environ))  # noqa: S606


@click.command()
@click.argument("request", type=FILE)
def demo(request: Path) -> None:
    """Start a farm, run one request through it, show its progress, and stop the farm again.

    Example: farm demo examples/single_image.json
    """
    from farm.local.supervisor import open_supervisor

    _end_on_signals()
    settings = Settings.load(os.environ)
    click.echo("starting broker and workers ...")
    with open_supervisor(settings) as supervisor:
        job = Farm(settings=supervisor.settings).submit(read_payload(request))
        click.echo(f"job {job.id} is on its way through download, embed, generate and mux")
        see_through(job, settings.folder / "demo.mp4", as_json=False)


@contextmanager
def _until_ctrl_c(farewell: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, and that is no failure."""
    _end_on_signals()
    try:
        yield
    except KeyboardInterrupt:
        click.echo(farewell)


def _end_on_signals() -> None:
    """SIGTERM ends a farm like Ctrl-C; and Ctrl-C works also where a script started us in the background."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
