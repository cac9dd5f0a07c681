"""What docs/webhooks.md tells receivers to do, done with calls as the farm makes them."""

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
    """What a receiver calls, as one of the page's programs has it."""
    names: dict[str, Any] = {}
    exec(PROGRAMS[request.param], names)
    return names["result_of"]


def called(*secrets: str, at_s: float = 0) -> dict[str, str]:
    """The headers of a call, spelt as servers hand them on."""
    headers = sign(BODY, message_id="msg_a", at_s=round(time.time() + at_s), secrets=secrets or [SECRET])
    return {name.title(): value for name, value in headers.items()}


def test_the_page_has_a_program_with_and_one_without_the_library():
    assert ["standardwebhooks" in program for program in PROGRAMS] == [True, False]


@pytest.mark.parametrize("secrets", [(SECRET,), (OTHER, SECRET), (SECRET, OTHER)], ids=["one", "new", "old"])
def test_a_call_of_the_farm_is_believed(result_of, secrets):
    assert result_of(BODY, called(*secrets), SECRET) == {"job_id": "a", "prompt": "ü"}


@pytest.mark.parametrize(
    ("body", "secret", "at_s"),
    [(BODY + b" ", SECRET, 0), (BODY, OTHER, 0), (BODY, SECRET, -400), (BODY, SECRET, 400)],
    ids=["changed", "another's", "old", "of tomorrow"],
)
def test_anything_else_is_not_believed(result_of, body, secret, at_s):
    with pytest.raises(Exception, match=r"not from the farm|No matching signature|too old|too new"):
        result_of(body, called(secret, at_s=at_s), SECRET)


@pytest.mark.parametrize("result_of", [1], indirect=True, ids=["by hand"])
def test_a_signature_that_is_no_ascii_is_not_believed_either(result_of):
    with pytest.raises(ValueError, match="not from the farm"):
        result_of(BODY, {**called(), "Webhook-Signature": "v1,ü"}, SECRET)


def test_the_pauses_on_the_page_are_those_of_the_settings():
    shown = {"s": 1, "min": 60, "h": 3600}
    (listed,) = re.findall(r"tries again (.*?) later", PAGE)
    pauses = [int(number) * shown[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", listed)]
    assert tuple(pauses) == Settings().webhook_retry_delays_s
