"""The `farm` command: words in, one call, words out. A file for each family of commands."""

from __future__ import annotations

from typing import Any

import click

from farm.cli import batches, jobs, maintenance, requests, serve, weights
from farm.cli.exit_codes import BROKEN_OFF, EXIT_STATUS, FAILED, STATUS_OF
from farm.cli.render import complain
from farm.errors import FarmError

__all__ = ["EXIT_STATUS", "cli", "main"]

COMMANDS = [
    *(serve.up, serve.metrics, serve.ui, serve.worker, serve.demo),
    *(requests.submit, requests.payload, requests.schema),
    *(jobs.status, jobs.watch, jobs.result, jobs.cancel, jobs.jobs),
    *(maintenance.recover, maintenance.gc, maintenance.doctor),
    batches.batch,
    weights.weights,
]


class Door(click.Group):
    """Shows the farm's errors as one line, without a traceback, and says by its status how a command ended."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FarmError as error:
            complain(error)
            ctx.exit(STATUS_OF.get(type(error), FAILED))
        except KeyboardInterrupt:
            ctx.exit(BROKEN_OFF)


@click.group(cls=Door, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="infinitetalk-farm")
def cli() -> None:
    """Turn a face and a voice into a talking video.

    The farm is found by FARM_BROKER_URL, or by FARM_HOME if `farm up` runs on this machine.
    """


def main() -> None:
    """The console script's entry."""
    cli()
