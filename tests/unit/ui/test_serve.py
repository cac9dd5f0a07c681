"""The page behind its gate, on Gradio itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import httpx2
import pytest

from farm import Farm
from farm.net.address import ListenAddress
from farm.settings import Settings
from farm.ui.page import MAX_JOBS
from farm.ui.serve import open_page
from tests.support.ports import free_port

PREDICT = "/gradio_api/run/predict"


class CountingFarm(Farm):
    """Lists the jobs that are looked for."""

    looked_for: ClassVar[list[str]] = []

    def job(self, job_id):
        self.looked_for.append(job_id)
        return super().job(job_id)


@pytest.fixture(scope="module")
def farm(tmp_path_factory) -> Farm:
    return CountingFarm("inline://", settings=Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def page(farm) -> Iterator[httpx2.Client]:
    address = ListenAddress("127.0.0.1", free_port())
    with open_page(farm, address), httpx2.Client(base_url=address.url, timeout=60) as client:
        yield client


def handler(page, wanted) -> dict:
    """The event handler that has a component of each of these types among its inputs."""
    config = page.get("/config").json()
    types = {each["id"]: each["type"] for each in config["components"]}
    for dependency in config["dependencies"]:
        inputs = [types.get(each) for each in dependency["inputs"]]
        if wanted <= set(inputs) and dependency["backend_fn"]:
            return {"id": dependency["id"], "inputs": inputs}
    raise AssertionError(f"no event handler has {wanted}")


def test_what_is_uploaded_is_served_to_its_page_and_in_a_folder_of_its_own(page):
    (path,) = page.post("/gradio_api/upload", files={"files": ("face.png", b"a face")}).json()
    assert page.get(f"/gradio_api/file={path}").content == b"a face"
    assert "/farm-ui-" in path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/gradio_api/process_recording", 404),
        ("GET", "/gradio_api/file=http://203.0.113.7/latest", 403),
        ("GET", "/gradio_api/file/etc/passwd", 404),
        ("GET", "/gradio_api/proxy=http://203.0.113.7/", 404),
        ("GET", "/gradio_api/openapi.json", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/monitoring", 404),
        ("GET", "/gradio_api/mcp", 404),
        ("POST", "/gradio_api/component_server", 404),
    ],
)
def test_what_else_gradio_can_do_is_refused(page, method, path, status):
    answer = page.request(method, path, files={"video": ("a.mp4", b"ffconcat version 1.0")})
    assert answer.status_code == status


def test_the_pages_server_fetches_no_file(page):
    submit = handler(page, {"file"})
    data = [None] * len(submit["inputs"])
    file = {"path": "http://203.0.113.7/latest", "meta": {"_type": "gradio.FileData"}}
    data[submit["inputs"].index("file")] = file
    answer = page.post(PREDICT, json={"fn_index": submit["id"], "data": data, "session_hash": "a"})
    assert answer.status_code == 403


def test_gradios_own_cors_stays_behind_the_gate(page):
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (page.options(PREDICT, headers=asked), page.get("/config", headers=asked)):
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_of_a_long_list_of_jobs_only_so_many_are_looked_for(page, farm):
    refresh = handler(page, {"browserstate", "state"})
    data = [None] * len(refresh["inputs"])
    data[refresh["inputs"].index("browserstate")] = [["none", ""]] * 20_000
    farm.looked_for.clear()
    answer = page.post(PREDICT, json={"fn_index": refresh["id"], "data": data, "session_hash": "b"})
    assert answer.status_code == 200
    assert len(farm.looked_for) == MAX_JOBS
