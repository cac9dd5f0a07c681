"""The `farm` command: each command parses options, calls one function, and prints."""

from __future__ import annotations

from typing import Any

import click

from farm.cli import (
    batches,
    bench,
    completion,
    endpoint,
    job_list,
    jobs,
    keys,
    logs,
    maintenance,
    requests,
    serve,
    settings,
    simulate,
    voices,
    webhooks,
    weights,
)
from farm.cli.exit_codes import EXIT_STATUS, INTERRUPTED, exit_status
from farm.cli.render import print_error
from farm.errors import FarmError

__all__ = ["EXIT_STATUS", "cli", "main"]

COMMANDS = [
    *(serve.up, serve.metrics, serve.ui, serve.gateway, serve.worker, serve.demo),
    *(requests.submit, requests.payload, requests.schema, voices.list_voices),
    *(jobs.status, jobs.watch, jobs.result, jobs.open_video),
    *(jobs.cancel, jobs.retry, jobs.delete),
    *(job_list.jobs, logs.logs),
    *(maintenance.bucket, maintenance.recover, maintenance.gc),
    *(maintenance.doctor, maintenance.health, settings.show_settings),
    webhooks.webhook_secret,
    keys.keys,
    batches.batch,
    endpoint.endpoint,
    simulate.simulate,
    bench.bench,
    weights.weights,
    completion.completion,
]


HABITS = {
    **dict.fromkeys(("list", "ls", "ps", "history", "queue"), "jobs"),
    **dict.fromkeys(("run", "create", "generate", "make"), "submit"),
    **dict.fromkeys(("start", "serve"), "up"),
    **dict.fromkeys(("stop", "kill"), "cancel"),
    **dict.fromkeys(("rm", "remove", "purge"), "delete"),
    **dict.fromkeys(("show", "info", "get"), "status"),
    **dict.fromkeys(("download", "save"), "result"),
    **dict.fromkeys(("follow", "progress"), "watch"),
    **dict.fromkeys(("again", "rerun"), "retry"),
    **dict.fromkeys(("page", "web"), "ui"),
    **dict.fromkeys(("play", "view"), "open"),
    "check": "doctor",
    **dict.fromkeys(("config", "env"), "settings"),
}
"""What hands used to other programs type, with the command that it is here."""


class FarmGroup(click.Group):
    """Prints the farm's errors as one line without a traceback, and sets the exit status."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in HABITS:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {HABITS[args[0]]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FarmError as error:
            print_error(error)
            ctx.exit(exit_status(error))
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


@click.group(cls=FarmGroup, commands=COMMANDS, context_settings=HELP_OPTIONS)
@click.version_option(package_name="infinitetalk-farm")
def cli() -> None:
    """Turn a face and a voice into a talking video.

    Commands talk to the farm at FARM_BROKER_URL, which may be runpod://ENDPOINT_ID, or else to the
    one that `farm up` runs in FARM_HOME on this machine.
    """


def main() -> None:
    """The console script's entry."""
    cli()
