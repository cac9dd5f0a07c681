"""Commands that run a process: until Ctrl-C, or for one job."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from farm.cli.options import FILE
from farm.cli.render import echo, follow_to_end, hint
from farm.cli.viewer import show
from farm.client import Farm
from farm.errors import InvalidInput
from farm.job.files import read_payload
from farm.logs import configure as configure_logs
from farm.net.address import ListenAddress
from farm.presets import preset
from farm.route import CONSUMED
from farm.settings import Settings

STOPPED = "the farm has stopped; jobs that have not ended go on with the next `farm up`"

PAGE = "127.0.0.1:7860"
"""Where the page listens by default."""


@click.command()
@click.option(
    "--flower",
    metavar="[ADDRESS:PORT]",
    is_flag=False,
    flag_value="127.0.0.1:5555",
    help="also run Flower, a web page of tasks and workers; by default at 127.0.0.1:5555",
)
@click.option(
    "--ui",
    "page",
    metavar="[ADDRESS:PORT]",
    is_flag=False,
    flag_value=PAGE,
    help=f"also serve the web page for making videos; by default at {PAGE}",
)
def up(flower: str | None, page: str | None) -> None:
    """Run a whole farm on this machine, until Ctrl-C.

    Ctrl-C drains the workers: running steps return to the queue. A second Ctrl-C kills them.
    Flower and the page listen beyond loopback only if FARM_FLOWER_AUTH or FARM_UI_AUTH, each as
    USER:PASSWORD, is set.

    Example: farm up --ui
    """
    from farm.local.supervisor import open_supervisor

    settings = Settings.load(os.environ)
    address = ListenAddress.parse(flower, field="flower") if flower else None
    page_address = ListenAddress.parse(page, field="ui") if page else None
    if page_address:
        from farm.ui.serve import check_address, open_page

        check_address(page_address, settings)
    click.echo("starting broker and workers ...")
    with (
        until_ctrl_c(STOPPED),
        open_supervisor(settings, flower=address) as supervisor,
        ExitStack() as pages,
    ):
        if settings.metrics_address:
            _serve_metrics(supervisor.settings)
        folder = settings.folder
        click.echo(f"the farm is up in {folder} (logs in {folder / 'logs'}); Ctrl-C stops it")
        click.echo(f"workers: 1 cpu, 1 gpu (FARM_DEVICE {settings.device})")
        for model in map(preset, settings.presets):
            click.echo(f"{model.name}: {model.good_for}")
        if address:
            click.echo(_flower_line(address, settings))
        _warn_without_weights(settings)
        if page_address:
            configure_logs(level=logging.WARNING)  # what the page tells in other words
            pages.enter_context(open_page(Farm(settings=supervisor.settings), page_address))
            click.echo(_page_line(page_address))
        else:
            hint("in another shell: farm ui, or farm submit --help")
        supervisor.supervise(click.echo)


def _page_line(address: ListenAddress) -> str:
    return f"the web page is at {address.url}; Ctrl-C stops it"


def _flower_line(address: ListenAddress, settings: Settings) -> str:
    from farm.local.flower import auth_file

    line = f"Flower is at {address.url}"
    if settings.flower_auth:
        return line
    return f"{line} (user:password are in {auth_file(settings)})"


def _warn_without_weights(settings: Settings) -> None:
    for model in map(preset, settings.presets):
        folder = model.folder(settings.weights_folder)
        missing = model.missing_parts(folder)
        if missing:
            click.echo(
                f"note: no video of {model.name} can be made yet: {folder} has no "
                f"{', '.join(missing)}; {model.remedy}",
                err=True,
            )


@click.command()
@click.option("--once", is_flag=True, help="print the metrics once instead of serving them")
def metrics(once: bool) -> None:
    """Serve the farm's metrics to Prometheus, until Ctrl-C.

    They are served at FARM_METRICS_ADDRESS, and read from the broker at each scrape. Workers for
    which that variable is set serve metrics of their own.

    Example: farm metrics --once
    """
    from farm.monitoring.exporter import FarmCollector, exposition

    settings = Settings.load(os.environ)
    if once:
        click.echo(exposition(FarmCollector(settings)), nl=False)
        return
    with until_ctrl_c("the metrics server has stopped"):
        _serve_metrics(settings)
        signal.pause()


def _serve_metrics(settings: Settings) -> None:
    from farm.monitoring.exporter import FarmCollector, serve

    address = settings.metrics_listen_address
    if address is None:
        raise InvalidInput("FARM_METRICS_ADDRESS: not set; allowed: PORT or HOST:PORT")
    try:
        serve(FarmCollector(settings), address)
    except OSError as error:
        reason = error.strerror or error
        raise InvalidInput(
            f"FARM_METRICS_ADDRESS: got {settings.metrics_address!r}; {reason}"
        ) from error
    click.echo(f"metrics at {address.url}/metrics")


@click.command()
@click.option(
    "--address",
    default=PAGE,
    show_default=True,
    metavar="ADDRESS:PORT",
    help="where to listen",
)
def ui(address: str) -> None:
    """Serve a web page for making videos, until Ctrl-C.

    It listens beyond loopback only if FARM_UI_AUTH=USER:PASSWORD is set. Behind a proxy it needs
    its public name in FARM_UI_HOSTS.

    Example: farm ui --address 127.0.0.1:8000
    """
    from farm.ui.serve import open_page

    listen_address = ListenAddress.parse(address, field="address")
    configure_logs(level=logging.WARNING)
    with until_ctrl_c("the web page has stopped"), open_page(Farm(), listen_address):
        click.echo(_page_line(listen_address))
        signal.pause()


@click.command()
@click.option(
    "--address",
    default="127.0.0.1:8000",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="where to listen",
)
def gateway(address: str) -> None:
    """Serve the farm over HTTP, until Ctrl-C.

    Jobs are under /v1; Runpod's Python and JavaScript clients work with the URL that ends in /v2.
    Without keys (`farm keys`) it listens on loopback only, and jobs are those of FARM_CALLER. /docs
    describes both.

    Example: farm gateway --address 127.0.0.1:9000
    """
    from farm.gateway.serve import make_server
    from farm.queue.brokers import check_shared

    listen_address = ListenAddress.parse(address, field="address")
    ready = f"the gateway is at {listen_address.url}/v2 and /v1; Ctrl-C stops it"
    settings = Settings.load(os.environ)
    check_shared(settings)
    farm = Farm(settings=settings, local_files=False)
    configure_logs()
    server = make_server(farm, listen_address, lambda: click.echo(ready))
    with until_ctrl_c("the gateway has stopped"):
        server.run()


@click.command()
@click.argument("kind", type=click.Choice(list(CONSUMED)))
def worker(kind: Any) -> None:
    """Run one worker, until Ctrl-C.

    It waits FARM_START_TIMEOUT_S for broker and store at its start, and later for as long as it
    takes. A cpu worker also runs one that downloads, unless FARM_DOWNLOAD_CONCURRENCY is 0. A gpu
    worker does not start without complete weights, or on a driver that is too old.

    A bridge sends chunks to a Runpod endpoint. It needs RUNPOD_ENDPOINT_ID, RUNPOD_API_KEY and an
    s3:// store: see docs/runpod.md.

    Example: farm worker gpu
    """
    from farm.local.worker import worker_command, worker_environ
    from farm.queue.brokers import check_shared

    settings = Settings.load(os.environ)
    check_shared(settings)
    if kind == "bridge":
        from farm.runpod.bridge import open_bridge

        open_bridge(settings)  # what is missing is said here, in one sentence
    if kind == "gpu":
        from farm.local.gpu_start import check_gpu_start

        check_gpu_start(settings)
    command = worker_command(kind, settings)
    os.execve(command[0], command, worker_environ(os.environ))  # noqa: S606


@click.command()
@click.argument("request", type=FILE)
@click.option("--open", "is_shown", is_flag=True, help="show the video in this machine's player")
def demo(request: Path, is_shown: bool) -> None:
    """Start a farm, run one request on it, and stop it.

    Its home is that of `farm up`, which knows the job afterwards.

    Example: farm demo examples/single_image.json
    """
    from farm.local.supervisor import open_supervisor

    _interrupt_on_signals()
    settings = Settings.load(os.environ)
    click.echo("starting broker and workers ...")
    with open_supervisor(settings) as supervisor:
        job = Farm(settings=supervisor.settings).submit(read_payload(request))
        click.echo(f"job {job.id} goes through download, embed, generate and mux")
        video = settings.folder / "demo.mp4"
        follow_to_end(job, video, as_json=False)
    if is_shown and not show(str(video)):
        echo(f"note: nothing here shows {video}", err=True)
    hint("farm up --ui, a page for your own videos")


@contextmanager
def until_ctrl_c(last_line: str) -> Iterator[None]:
    """Ends the block at Ctrl-C or SIGTERM, which is no failure, and prints a last line."""
    _interrupt_on_signals()
    try:
        yield
    except KeyboardInterrupt:
        click.echo(last_line)


def _interrupt_on_signals() -> None:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt.

    A shell script starts background processes with SIGINT ignored, hence SIGINT too.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
