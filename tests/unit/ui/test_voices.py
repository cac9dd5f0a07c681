"""The list of voices on the page, and what is heard of one."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from farm import Farm
from farm.job.voices import ESPEAK
from farm.media.audio import decode
from farm.net.address import ListenAddress
from farm.settings import Settings
from farm.ui.serve import open_page
from tests.support.ports import free_port
from tests.support.visitor import Visitor


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), ui_auth="ann:secret")
    address = ListenAddress("127.0.0.1", free_port())
    with (
        open_page(Farm("inline://", settings=settings), address),
        httpx2.Client(base_url=address.url, timeout=60) as client,
    ):
        yield Visitor(client, "ann", "secret")


def test_every_voice_can_be_chosen_by_its_language(ann: Visitor):
    (listed,) = (
        each["props"]["choices"]
        for each in ann.components.values()
        if each["props"].get("elem_id") == "voice1"
    )
    assert [value for _, value in listed] == [voice.name for voice in ESPEAK]
    assert ["German, Deutsch: de", "de"] in listed


@pytest.mark.parametrize("person", [1, 2])
def test_a_voice_can_be_heard(ann: Visitor, person: int, tmp_path: Path):
    (player,) = ann.call(f"listen{person}", "click", {f"voice{person}": "de+f3"})
    (content,) = re.findall('<audio src="data:audio/wav;base64,([^"]+)" controls', player)
    (tmp_path / "sample.wav").write_bytes(b64decode(content))
    samples, rate = decode(tmp_path / "sample.wav")
    assert samples.shape[1] > rate


def test_a_name_that_no_voice_has_is_refused(ann: Visitor):
    (alert,) = ann.call("listen1", "click", {"voice1": "german"})
    assert 'role="alert"' in alert
    assert "did you mean de?" in alert
