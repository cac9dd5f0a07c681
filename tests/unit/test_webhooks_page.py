"""The receivers in docs/webhooks.md, run with calls as the farm makes them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.net.signing import sign
from farm.settings import Settings
from tests.support.receiver import SECRET

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
BODY = '{"job_id": "a", "prompt": "ü"}'.encode()
OTHER = "whsec_" + "A" * 40


@pytest.fixture(params=range(2), ids=["library", "by hand"])
def result_of(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The function that verifies a call, from one of the page's programs."""
    names: dict[str, Any] = {}
    exec(PROGRAMS[request.param], names)
    return names["result_of"]


def headers(*secrets: str, at_s: float = 0) -> dict[str, str]:
    """The headers of a call, spelled as servers pass them on."""
    signed = sign(
        BODY, message_id="msg_a", at_s=round(time.time() + at_s), secrets=secrets or [SECRET]
    )
    return {name.title(): value for name, value in signed.items()}


def test_the_page_has_one_program_with_the_library_and_one_without():
    assert ["standardwebhooks" in program for program in PROGRAMS] == [True, False]


@pytest.mark.parametrize(
    "secrets", [(SECRET,), (OTHER, SECRET), (SECRET, OTHER)], ids=["one", "new", "old"]
)
def test_a_call_by_the_farm_is_accepted(result_of, secrets):
    assert result_of(BODY, headers(*secrets), SECRET) == {"job_id": "a", "prompt": "ü"}


@pytest.mark.parametrize(
    ("body", "secret", "at_s"),
    [(BODY + b" ", SECRET, 0), (BODY, OTHER, 0), (BODY, SECRET, -400), (BODY, SECRET, 400)],
    ids=["changed", "another secret", "old", "in the future"],
)
def test_any_other_call_is_rejected(result_of, body, secret, at_s):
    with pytest.raises(Exception, match=r"not from the farm|No matching signature|too old|too new"):
        result_of(body, headers(secret, at_s=at_s), SECRET)


@pytest.mark.parametrize("result_of", [1], indirect=True, ids=["by hand"])
def test_a_signature_that_is_not_ascii_is_rejected(result_of):
    with pytest.raises(ValueError, match="not from the farm"):
        result_of(BODY, {**headers(), "Webhook-Signature": "v1,ü"}, SECRET)


def test_the_retry_delays_on_the_page_are_those_of_the_settings():
    seconds = {"s": 1, "min": 60, "h": 3600}
    (listed,) = re.findall(r"tries again (.*?) later", PAGE)
    delays = [
        int(number) * seconds[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", listed)
    ]
    assert tuple(delays) == Settings().webhook_retry_delays_s
