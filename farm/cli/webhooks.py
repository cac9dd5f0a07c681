"""The command about webhooks."""

from __future__ import annotations

import json
import os

import click

from farm.cli.options import json_option
from farm.errors import InvalidInput, shorten
from farm.net.signing import origin, receiver_secret
from farm.settings import Settings


@click.command("webhook-secret")
@click.argument("url")
@json_option("print origin and secret as JSON")
def webhook_secret(url: str, as_json: bool) -> None:
    """Print the secret that verifies the calls of a webhook.

    The receiver at URL needs it. It is derived from FARM_WEBHOOK_SECRET, during a rotation from the
    last one there. All URLs of one host and port have the same; that of any other receiver cannot
    be computed from it.

    Example: farm webhook-secret https://example.org
    """
    secrets = Settings.load(os.environ).webhook_secret
    if not secrets:
        allowed = Settings.model_fields["webhook_secret"].description
        raise InvalidInput(f"FARM_WEBHOOK_SECRET: it is not set; allowed: {allowed}")
    try:
        receiver = origin(url)
    except ValueError as error:
        shown = shorten(repr(url))
        raise InvalidInput(f"url: got {shown}; allowed: https:// with a host") from error
    secret = receiver_secret(secrets[-1], receiver)
    click.echo(json.dumps({"origin": receiver, "secret": secret}) if as_json else secret)
