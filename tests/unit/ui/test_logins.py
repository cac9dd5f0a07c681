"""Several logins of one page: each makes, sees and cancels its own jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from farm import Farm
from farm.errors import InvalidInput
from farm.net.address import ListenAddress
from farm.settings import Settings
from farm.ui.serve import open_page
from tests.support.jobs import FIELDS
from tests.support.ports import free_port

PASSWORDS = {"ann": "secret", "bob": "other"}
PREDICT = "/gradio_api/run/predict"


class Visitor:
    """A browser after its login."""

    def __init__(self, client: httpx2.Client, name: str) -> None:
        self.client = client
        self.name = name
        form = {"username": name, "password": PASSWORDS[name]}
        assert client.post("/login", data=form).status_code == 200
        self.config = client.get("/config").json()
        self.components = {each["id"]: each for each in self.config["components"]}

    def call(self, trigger: str, event: str, values: dict[str, Any]) -> list[Any]:
        """What the handler of a component's event returns; `values` by element, or by type."""
        (target,) = (
            each["id"]
            for each in self.components.values()
            if trigger in (each["props"].get("elem_id"), each["type"])
        )
        (handler,) = (
            each
            for each in self.config["dependencies"]
            if [target, event] in each["targets"] and each["backend_fn"]
        )
        data = [self._value(each, values) for each in handler["inputs"]]
        body = {"fn_index": handler["id"], "data": data, "session_hash": self.name}
        answer = self.client.post(PREDICT, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def _value(self, component_id: int, values: dict[str, Any]) -> Any:
        component = self.components[component_id]
        props = component["props"]
        for name in (props.get("elem_id"), component["type"]):
            if name in values:
                return values[name]
        return props.get("value")

    def upload(self, path: Path) -> dict[str, Any]:
        (stored,) = self.client.post(
            "/gradio_api/upload", files={"files": (path.name, path.read_bytes())}
        ).json()
        return {"path": stored, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def listed(self, *job_ids: str) -> list[str]:
        """The jobs that the page shows, of those in the browser's list."""
        own_jobs = [[job_id, "a prompt"] for job_id in job_ids]
        items, *_ = self.call("timer", "tick", {"browserstate": own_jobs})
        return [item["id"] for item in items]

    def cancel(self) -> None:
        """Cancels the job that the page shows."""
        self.call("cancel", "click", {})


@pytest.fixture
def farm(broker: str, tmp_path: Path) -> Farm:
    logins = ",".join(f"{name}:{password}" for name, password in PASSWORDS.items())
    return Farm(settings=Settings(home=tmp_path / "home", broker_url=broker, ui_auth=logins))


@pytest.fixture
def visitors(farm: Farm) -> Iterator[list[Visitor]]:
    address = ListenAddress("127.0.0.1", free_port())
    with ExitStack() as stack:
        stack.enter_context(open_page(farm, address))
        yield [
            Visitor(stack.enter_context(httpx2.Client(base_url=address.url, timeout=60)), name)
            for name in PASSWORDS
        ]


def test_a_job_is_its_logins(farm, visitors, portrait, voice):
    ann, _ = visitors
    values = {"face": ann.upload(portrait), "audio1": ann.upload(voice), "browserstate": []}
    notice, *_ = ann.call("submit", "click", values)
    assert notice == ""
    (status,) = farm.jobs()
    assert status.caller == "ann"


def test_a_login_sees_and_cancels_its_own_jobs_only(farm, visitors):
    ann, bob = visitors
    job = farm.as_caller("ann").submit(FIELDS)
    assert bob.listed(job.id) == []
    bob.cancel()
    assert job.status().state == "queued"
    assert ann.listed(job.id) == [job.id]
    ann.cancel()
    assert job.status().state == "cancelled"


def test_a_login_that_cannot_be_a_caller_is_refused(tmp_path):
    settings = Settings(home=tmp_path, ui_auth="ann:secret,b/b:other")
    with (
        pytest.raises(InvalidInput, match=r"^FARM_UI_AUTH: got 'b/b'; allowed: 1 to 64"),
        open_page(Farm("inline://", settings=settings), ListenAddress("127.0.0.1", free_port())),
    ):
        pass
