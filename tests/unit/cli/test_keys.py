"""`farm keys` and the addresses of `farm gateway`."""

from __future__ import annotations

import json

import pytest

from farm.client import Farm
from tests.support.cli import Run, error_line
from tests.support.ports import free_port


def test_a_key_is_printed_alone_so_that_a_script_can_take_it(run: Run, farm: Farm):
    created = run("keys", "create", "anna")

    key = farm.context.registry.keys.find(created.stdout.strip())
    assert key is not None
    assert (key.caller, key.highest_priority) == ("anna", "normal")
    assert created.stderr == f"the key {key.id} of anna; it is not shown again\n"


def test_a_key_has_what_its_options_allow(run: Run):
    created = run(
        *("keys", "create", "anna", "--json", "--rate", "60", "--max-live-jobs", "0"),
        *("--gpu-s-per-day", "3600", "--highest-priority", "low"),
    )

    fields = json.loads(created.stdout)
    assert fields["key"].startswith("itf_")
    assert (fields["rate_per_minute"], fields["max_live_jobs"]) == (60, 0)
    assert (fields["max_gpu_s_per_day"], fields["highest_priority"]) == (3600, "low")


def test_a_list_has_no_secrets(run: Run):
    secret = run("keys", "create", "anna", "--rate", "60").stdout.strip()

    text = run("keys", "list").stdout
    fields = json.loads(run("keys", "list", "--json").stdout)

    assert "anna" in text
    assert "never" in text
    assert text.endswith("rate=60 highest-priority=normal\n")
    assert "digest" not in fields
    assert secret[4:] not in text + json.dumps(fields)


def test_a_key_is_revoked_by_its_id(run: Run, farm: Farm):
    secret = run("keys", "create", "anna").stdout.strip()
    (known,) = farm.context.registry.keys.all()

    revoked = run("keys", "revoke", known.key.id)

    assert revoked.stdout == f"{known.key.id}  anna  revoked\n"
    assert farm.context.registry.keys.find(secret) is None
    listed = run("keys", "list")
    assert (listed.stdout, listed.stderr) == ("", "no keys\n")


def test_a_name_that_no_caller_can_have_is_refused(run: Run):
    assert "name: got 'an na'; allowed: 1 to 64" in error_line(run("keys", "create", "an na"))


def test_an_unknown_key_is_not_revoked(run: Run):
    assert "key_id: got 'anna'; there is no such key" in error_line(run("keys", "revoke", "anna"))


# Which broker they need


@pytest.mark.parametrize("command", [("keys", "create", "anna"), ("keys", "list"), ("gateway",)])
@pytest.mark.parametrize("broker_url", ["runpod://abc123", "memory://"])
def test_a_registry_that_no_other_process_has_is_refused(
    run: Run, command: tuple[str, ...], broker_url: str
):
    line = error_line(run(*command, FARM_BROKER_URL=broker_url))

    scheme = broker_url.partition("abc")[0]
    assert line.endswith(
        f"FARM_BROKER_URL: got {scheme}; allowed: redis://, rediss://, amqp:// or amqps://"
    )


# Where the gateway listens


def test_without_a_key_only_on_loopback(run: Run):
    line = error_line(run("gateway", "--address", f"0.0.0.0:{free_port()}"))

    assert "0.0.0.0, which other machines can reach; allowed: loopback, or create a key" in line


@pytest.mark.parametrize("address", ["8000", "localhost:8000", "127.0.0.1:0"])
def test_an_invalid_address_is_refused(run: Run, address: str):
    line = error_line(run("gateway", "--address", address))

    assert f"address: got {address!r}; allowed: ADDRESS:PORT" in line
