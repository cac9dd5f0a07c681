"""Completion of commands and options by the shell."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice([*SHELLS]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which a shell completes `farm`.

    It belongs into the start-up file of the shell.

    Example: farm completion bash >> ~/.bashrc
    """
    script = SHELLS[shell](ctx.find_root().command, {}, "farm", "_FARM_COMPLETE").source()
    click.echo(script)
