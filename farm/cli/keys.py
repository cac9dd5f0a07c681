"""Commands about the keys of the gateway."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

import click

from farm.caller import check_caller
from farm.cli.options import json_option
from farm.cli.render import echo, echo_json
from farm.job import PRIORITIES
from farm.registry import farm_registry
from farm.registry.api_keys import ApiKey, KeyRegistry, KnownKey
from farm.settings import Settings


@click.group()
def keys() -> None:
    """Create, list and revoke the keys of the gateway.

    A key belongs to a caller, and sees, cancels and purges that caller's jobs only.

    Example: farm keys create anna && farm keys list
    """


@keys.command()
@click.argument("name")
@click.option(
    "--rate", "rate_per_minute", type=click.IntRange(1), help="requests a minute; default: any"
)
@click.option(
    "--max-live-jobs",
    type=click.IntRange(0),
    help="jobs that have not ended; default: FARM_MAX_LIVE_JOBS",
)
@click.option(
    "--gpu-s-per-day",
    "max_gpu_s_per_day",
    type=click.FloatRange(0),
    help="GPU seconds a day; default: FARM_MAX_GPU_S_PER_DAY",
)
@click.option(
    "--highest-priority",
    type=click.Choice(PRIORITIES),
    default="normal",
    show_default=True,
    help="the highest priority that jobs may ask for",
)
@json_option("print the key and what it allows as JSON")
def create(name: str, as_json: bool, **allowed: Any) -> None:
    """Create a key for the caller NAME, and print it.

    It is shown this once: the farm keeps a hash of it. A caller may have several, for instance
    while one takes the place of another.

    Example: farm keys create anna --rate 600 --max-live-jobs 20
    """
    caller = check_caller(name, field="name")
    secret, key = _registry().create(caller, **allowed)
    if as_json:
        echo_json(json.dumps({"key": secret, **_fields(KnownKey(key, None))}))
        return
    echo(secret)
    click.echo(f"the key {key.id} of {key.caller}; it is not shown again", err=True)


@keys.command("list")
@json_option("print one line of JSON per key")
def list_(as_json: bool) -> None:
    """List all keys, the oldest first, without the keys themselves.

    Columns are the id, the caller, the times of creation and of the last use (UTC), and what the
    key allows.

    Example: farm keys list --json
    """
    known_keys = list(_registry().all())
    if not known_keys and not as_json:
        click.echo("no keys", err=True)
    for known in known_keys:
        if as_json:
            echo_json(json.dumps(_fields(known)))
        else:
            echo(_line(known))


@keys.command()
@click.argument("key_ids", metavar="KEY_ID...", nargs=-1, required=True)
def revoke(key_ids: tuple[str, ...]) -> None:
    """Revoke keys by their ids, from their next request on.

    Jobs that were submitted with them go on.

    Example: farm keys revoke 5d41402abc4b
    """
    registry = _registry()
    for key_id in key_ids:
        key = registry.revoke(key_id)
        echo(f"{key.id}  {key.caller}  revoked")


def _registry() -> KeyRegistry:
    """Of a broker that the gateways share: keys elsewhere would be forgotten at once."""
    from farm.queue.brokers import check_shared

    settings = Settings.load(os.environ)
    check_shared(settings)
    return farm_registry(settings).keys


def _fields(known: KnownKey) -> dict[str, Any]:
    fields = known.key.model_dump(mode="json", exclude={"digest"})
    return {"id": known.key.id, **fields, "used_at": known.used_at}


def _line(known: KnownKey) -> str:
    key = known.key
    columns = [
        key.id,
        f"{key.caller:12}",
        _time(key.created_at),
        f"{_time(known.used_at) if known.used_at else 'never':19}",
        _allowed(key),
    ]
    return "  ".join(columns).rstrip()


def _allowed(key: ApiKey) -> str:
    limits = {
        "rate": key.rate_per_minute,
        "max-live-jobs": key.max_live_jobs,
        "gpu-s-per-day": key.max_gpu_s_per_day,
        "highest-priority": key.highest_priority,
    }
    return " ".join(f"{name}={value}" for name, value in limits.items() if value is not None)


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
