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

SECTIONS: dict[str, list[click.Command]] = {
    "Make videos": [requests.submit, batches.batch, voices.list_voices],
    "Jobs": [
        *(job_list.jobs, jobs.status, jobs.watch, jobs.result, jobs.open_video),
        *(jobs.cancel, jobs.retry, jobs.delete),
    ],
    "Run a farm": [
        *(serve.demo, serve.up, serve.ui, serve.gateway, keys.keys),
        *(weights.weights, serve.worker, maintenance.bucket, endpoint.endpoint),
    ],
    "Operate a farm": [
        *(maintenance.doctor, maintenance.health, logs.logs, serve.metrics),
        *(settings.show_settings, maintenance.gc, maintenance.recover),
        *(bench.bench, simulate.simulate),
    ],
    "For programs": [
        *(requests.payload, requests.schema, webhooks.webhook_secret, completion.completion),
    ],
}
"""The commands as the help lists them."""

HABITS = {
    **dict.fromkeys(("list", "ls", "ps", "history", "queue"), "jobs"),
    **dict.fromkeys(("run", "create", "generate", "make"), "submit"),
    **dict.fromkeys(("start", "serve"), "up"),
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

STOP_WORDS = ("stop", "kill", "down", "shutdown", "restart")
HOW_TO_STOP = (
    "Ctrl-C or SIGTERM stops `farm up`, `systemctl stop` a unit; `farm cancel ID` cancels a job."
)


class FarmGroup(click.Group):
    """Prints the farm's errors as one line without a traceback, and sets the exit status. Its help
    lists the commands by section.
    """

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        limit = formatter.width - width - 4  # the indent, and the space between the columns
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{each.name:{width}}", each.get_short_help_str(limit)) for each in commands]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in HABITS:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {HABITS[args[0]]!r}?")
        if args[0] in STOP_WORDS:
            ctx.fail(f"No such command {args[0]!r}. {HOW_TO_STOP}")
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


@click.group(
    cls=FarmGroup,
    commands=[command for section in SECTIONS.values() for command in section],
    context_settings=HELP_OPTIONS,
)
@click.version_option(package_name="infinitetalk-farm")
def cli() -> None:
    """Turn a face and a voice into a talking video.

    Commands talk to the farm at FARM_BROKER_URL, which may be runpod://ENDPOINT_ID, or else to the
    one that `farm up` runs in FARM_HOME on this machine.
    """


def main() -> None:
    """The console script's entry."""
    cli()
