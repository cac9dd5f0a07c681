"""`farm webhook-secret`."""

from __future__ import annotations

import json

import pytest

from farm.net.signing import receiver_secret
from tests.support.cli import error_line
from tests.support.receiver import SECRET

NEW = "whsec_" + "A" * 40


def test_the_secret_of_a_receiver_is_printed(run):
    result = run("webhook-secret", "https://example.org/done", FARM_WEBHOOK_SECRET=SECRET)
    assert result.stdout == receiver_secret(SECRET, "https://example.org") + "\n"


def test_as_json_it_says_whose_secret_it_is(run):
    url = "https://Example.org:443/done"
    result = run("webhook-secret", url, "--json", FARM_WEBHOOK_SECRET=SECRET)
    secret = receiver_secret(SECRET, "https://example.org")
    assert json.loads(result.stdout) == {"origin": "https://example.org", "secret": secret}


def test_during_a_rotation_it_is_the_new_one(run):
    result = run("webhook-secret", "https://example.org", FARM_WEBHOOK_SECRET=f"{SECRET},{NEW}")
    assert result.stdout == receiver_secret(NEW, "https://example.org") + "\n"


@pytest.mark.parametrize("url", ["example.org", "http://example.org", "https://"])
def test_a_url_that_no_webhook_may_have_is_refused(run, url):
    result = run("webhook-secret", url, FARM_WEBHOOK_SECRET=SECRET)
    expected = f"E_INPUT_VALIDATION: url: got {url!r}; allowed: https:// with a host"
    assert (error_line(result), result.exit_code) == (expected, 2)


def test_a_farm_without_a_secret_has_none_for_receivers(run):
    result = run("webhook-secret", "https://example.org")
    assert error_line(result).startswith("E_INPUT_VALIDATION: FARM_WEBHOOK_SECRET: it is not set")
