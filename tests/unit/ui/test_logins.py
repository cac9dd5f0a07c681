"""Several logins of one page: each makes, sees and cancels its own jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from farm import Farm
from farm.errors import InvalidInput
from farm.local.broker import Broker
from farm.net.address import ListenAddress
from farm.settings import Settings
from farm.store import keys
from farm.ui.serve import open_page
from farm.ui.words import FAILURES
from tests.support.jobs import FIELDS
from tests.support.ports import free_port
from tests.support.visitor import Visitor

PASSWORDS = {"ann": "secret", "bob": "other"}


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    return open_farm(broker, tmp_path)


def open_farm(broker: str, tmp_path: Path) -> Farm:
    logins = ",".join(f"{name}:{password}" for name, password in PASSWORDS.items())
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker, ui_auth=logins))


@pytest.fixture
def visitors(farm: Farm) -> Iterator[list[Visitor]]:
    with visiting(farm) as found:
        yield found


@contextmanager
def visiting(farm: Farm) -> Iterator[list[Visitor]]:
    """Ann and Bob on the page of a farm."""
    address = ListenAddress("127.0.0.1", free_port())
    with ExitStack() as stack:
        stack.enter_context(open_page(farm, address))
        yield [
            Visitor(stack.enter_context(httpx2.Client(base_url=address.url, timeout=60)), *login)
            for login in PASSWORDS.items()
        ]


def test_a_job_is_its_logins(farm, visitors, portrait, voice):
    ann, _ = visitors
    values = {"face": ann.upload(portrait), "audio1": ann.upload(voice), "browserstate": []}
    own_jobs, *_ = ann.call("submit", "click", values)
    assert own_jobs[0][1:] == [
        "portrait.png + speech.wav",
        {"face": "portrait.png", "audio1": "speech.wav"},
    ]
    (status,) = farm.jobs()
    assert status.caller == "ann"


def test_what_is_submitted_twice_is_one_job_until_it_has_ended(farm, visitors, portrait, voice):
    ann, _ = visitors
    values = {"face": ann.upload(portrait), "audio1": ann.upload(voice), "browserstate": []}
    own_jobs, *_ = ann.call("submit", "click", values)
    twice, *_ = ann.call("submit", "click", {**values, "browserstate": own_jobs})
    assert twice == own_jobs
    (job_id,) = [each[0] for each in own_jobs]
    farm.job(job_id).cancel()
    after, *_ = ann.call("submit", "click", {**values, "browserstate": own_jobs})
    assert len(after) == 2
    assert after[1:] == own_jobs


def test_mistakes_are_shown_beside_their_inputs(visitors, portrait):
    ann, _ = visitors
    updates = ann.call("submit", "click", {"face": ann.upload(portrait), "browserstate": []})[2:]
    shown = [each["value"] for each in updates if each["visible"]]
    assert len(shown) == 1
    assert "Choose an audio file, or record one.</p>" in shown[0]


def test_the_settings_and_files_of_a_job_are_entered_again(visitors, portrait, voice):
    ann, bob = visitors
    values = {"face": ann.upload(portrait), "audio1": ann.upload(voice), "browserstate": []}
    own_jobs, *_ = ann.call("submit", "click", values)
    chosen = {"browserstate": own_jobs, "event_data": {"job_id": own_jobs[0][0]}}
    _, face, *_ = ann.call("jobs", "copy", chosen)
    served = ann.client.get(f"/gradio_api/file={face['value']['path']}")
    assert served.content == portrait.read_bytes()
    _, face, *_ = bob.call("jobs", "copy", chosen)
    assert "value" not in face, "only its own login may"


def test_a_login_sees_and_cancels_its_own_jobs_only(farm, visitors):
    ann, bob = visitors
    job = farm.as_caller("ann").submit(FIELDS)
    assert bob.listed(job.id) == []
    bob.cancel()
    assert job.status().state == "queued"
    assert ann.listed(job.id) == [job.id]
    ann.cancel()
    assert job.status().state == "cancelled"


def test_a_login_deletes_its_own_jobs_only(farm, visitors, portrait, voice):
    ann, bob = visitors
    values = {"face": ann.upload(portrait), "audio1": ann.upload(voice), "browserstate": []}
    own_jobs, *_ = ann.call("submit", "click", values)
    chosen = {"browserstate": own_jobs, "event_data": {"job_id": own_jobs[0][0]}}
    bob.call("jobs", "delete", chosen)
    assert len(farm.jobs()) == 1
    assert ann.call("jobs", "delete", chosen)[0] == {"job_id": own_jobs[0][0]}
    assert farm.jobs() == []
    assert ann.listed(own_jobs[0][0]) == []
    assert list(farm.context.store.keys("")) == [keys.FARM]


def test_an_outage_is_told_in_words(tmp_path, caplog):
    broker = Broker(Settings(home=tmp_path / "broker"))
    farm = open_farm(broker.url, tmp_path)
    job = farm.as_caller("ann").submit(FIELDS)
    with visiting(farm) as (ann, _):
        broker.stop()
        chosen = {"browserstate": [[job.id, ""]], "event_data": {"job_id": job.id}}
        kept, *told = ann.call("jobs", "delete", chosen)
        told += [ann.call("download-all", "click", chosen)[1], ann.call("timer", "tick", chosen)[4]]
    assert "__type__" in kept, "it stays in the list"
    assert [FAILURES["E_UNREACHABLE"] in each for each in told] == [True, True, True]
    assert caplog.messages.count("page_error") == 1


def test_a_login_that_cannot_be_a_caller_is_refused(tmp_path):
    settings = Settings(home=tmp_path, ui_auth="ann:secret,b/b:other")
    with (
        pytest.raises(InvalidInput, match=r"^FARM_UI_AUTH: got 'b/b'; allowed: 1 to 64"),
        open_page(Farm("inline://", settings=settings), ListenAddress("127.0.0.1", free_port())),
    ):
        pass
