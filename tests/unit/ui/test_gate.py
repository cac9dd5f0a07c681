"""The gate before Gradio: what it lets through, and what it refuses."""

from __future__ import annotations

import json

import gradio as gr
import httpx2
import pytest
from fastapi.routing import iter_route_contexts
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from farm import Farm
from farm.net.address import ListenAddress
from farm.net.throttle import MAX_FAILURES
from farm.settings import Settings
from farm.ui.gate import MAX_BODY_BYTES, ROUTES, Gate
from farm.ui.hosts import Hosts
from farm.ui.serve import open_page
from farm.ui.uploads import Uploads
from tests.support.ports import free_port

LOOPBACK = ListenAddress("127.0.0.1", 7860)
PREDICT = "/gradio_api/run/predict"
UPLOAD = "/gradio_api/upload"

API = "/gradio_api"
REFUSED = {
    "GET": {
        "/config/",
        "/monitoring",
        "/monitoring/summary",
        "/monitoring/{key}",
        "/openapi.json",
        "/pwa_icon",
        "/pwa_icon/{size}",
        "/svelte/{path:path}",
        f"{API}/app_id/",
        f"{API}/call/v2/{{api_name}}/{{event_id}}",
        f"{API}/call/{{api_name}}/{{event_id}}",
        f"{API}/custom_component/{{id}}/{{environment}}/{{type}}/{{file_name}}",
        f"{API}/deep_link",
        f"{API}/dev/reload",
        f"{API}/file/{{path:path}}",
        f"{API}/info",
        f"{API}/info/",
        f"{API}/login_check",
        f"{API}/login_check/",
        f"{API}/openapi.json",
        f"{API}/proxy={{url_path:path}}",
        f"{API}/queue/data",
        f"{API}/queue/status",
        f"{API}/run-history/buckets",
        f"{API}/run-history/records",
        f"{API}/run-history/records/{{endpoint}}/{{record_id}}/assets/{{asset_id}}",
        f"{API}/runs",
        f"{API}/runs/",
        f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist-file",
        f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist.m3u8",
        f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/{{segment_id}}.{{ext}}",
        f"{API}/theme.css",
        f"{API}/token",
        f"{API}/token/",
        f"{API}/user",
        f"{API}/user/",
        f"{API}/vibe-code",
        f"{API}/vibe-code/",
    },
    "HEAD": {
        "/openapi.json",
        f"{API}/file={{path_or_url:path}}",
        f"{API}/proxy={{url_path:path}}",
    },
    "POST": {
        "/login/",
        f"{API}/api/{{api_name}}",
        f"{API}/api/{{api_name}}/",
        f"{API}/call/v2/{{api_name}}",
        f"{API}/call/v2/{{api_name}}/",
        f"{API}/call/{{api_name}}",
        f"{API}/call/{{api_name}}/",
        f"{API}/cancel",
        f"{API}/component_server",
        f"{API}/component_server/",
        f"{API}/process_recording",
        f"{API}/queue/join",
        f"{API}/reset",
        f"{API}/reset/",
        f"{API}/run-history/connect",
        f"{API}/run/{{api_name}}/",
        f"{API}/stream/{{event_id}}",
        f"{API}/stream/{{event_id}}/close",
        f"{API}/undo-vibe-edit",
        f"{API}/undo-vibe-edit/",
        f"{API}/vibe-code",
        f"{API}/vibe-code/",
        f"{API}/vibe-edit",
        f"{API}/vibe-edit/",
        f"{API}/vibe-starter-queries",
        f"{API}/vibe-starter-queries/",
    },
}
"""Gradio's routes that the page does not use, by method."""


# Routes


def gradio_routes() -> set[tuple[str, str | None]]:
    """Methods and paths of all of Gradio's routes; a kind of route without methods by its kind."""
    with gr.Blocks() as blocks:
        pass
    return {
        (method, route.path)
        for route in iter_route_contexts(blocks.app.routes)
        for method in route.methods or {type(route.original_route).__name__}
    }


def test_every_route_of_gradio_is_allowed_or_refused_on_purpose():
    routes = gradio_routes()
    allowed = {(method, path) for method, paths in ROUTES.items() for path in paths}
    refused = {(method, path) for method, paths in REFUSED.items() for path in paths}
    assert not allowed & refused
    assert routes - allowed - refused == set(), "new: put them into ROUTES or REFUSED"
    assert (allowed | refused) - routes == set(), "Gradio has these no more"


# Hosts and origins


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "uploads").mkdir()
    return tmp_path


class Gradio(Starlette):
    """An app behind the gate that notes what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.bodies: list[bytes] = []
        self.logged_in = True
        self.password = "secret"
        self.add_route("/{path:path}", self.answer, methods=["GET", "HEAD", "POST", "OPTIONS"])

    async def answer(self, request) -> Response:
        path = request.url.path
        self.seen.append(path)
        if path == UPLOAD and not self.logged_in:
            return Response(status_code=401)
        self.bodies.append(await request.body())
        if path == "/login":
            return self.log_in(self.bodies[-1].decode())
        return JSONResponse({}, headers={"Access-Control-Allow-Origin": "*"})

    def log_in(self, password: str) -> Response:
        if password != self.password:
            return Response(status_code=400)
        response = Response()
        response.set_cookie("token", "abc", samesite="none", secure=True, httponly=True)
        return response


@pytest.fixture
def app():
    return Gradio()


@pytest.fixture
def gate(app, folder):
    uploads = Uploads(folder / "uploads", max_bytes=1_000_000)
    return Gate(
        app,
        hosts=Hosts(LOOPBACK, ["farm.example"]),
        folder=folder,
        uploads=uploads,
        max_file_bytes=500_000,
    )


@pytest.fixture
def client(gate):
    return TestClient(gate, base_url="http://127.0.0.1:7860")


HERE = {"Origin": "http://127.0.0.1:7860"}
"""What browsers send with a form of the page."""


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:7860", "127.0.0.1", "localhost:8000", "LocalHost", "[::1]:7860", "farm.example"],
)
def test_the_page_answers_to_its_own_names(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:7861",
        "127.0.0.1.evil.example",
        "evil.example/127.0.0.1",
        "localhost.evil.example",
        "127.0.0.1:7860@evil.example",
        "evil.example:80:127.0.0.1",
        "192.168.1.5",
        "[::2]",
        "localhost.",
        "",
    ],
)
def test_another_host_is_refused(client, app, host):
    answer = client.get("/config", headers={"Host": host})
    assert answer.status_code == 421
    assert repr(host) in answer.text
    assert app.seen == []


@pytest.mark.parametrize(
    ("listen", "host", "own"),
    [
        ("0.0.0.0", "192.168.1.5:7860", True),
        ("0.0.0.0", "[fe80::5]:7860", True),
        ("0.0.0.0", "localhost:7860", True),
        ("::", "[::]:7860", True),
        ("0.0.0.0", "evil.example", False),
        ("192.168.1.5", "192.168.1.5:7860", True),
        ("192.168.1.5", "localhost:7860", False),
        ("192.168.1.5", "192.168.1.6:7860", False),
        ("::1", "[::1]:7860", True),
    ],
)
def test_an_address_is_a_name_where_all_interfaces_are_listened_to(listen, host, own):
    assert (host in Hosts(ListenAddress(listen, 7860), [])) == own


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:7860", "http://127.0.0.1:7860"),
        ("farm.example", "https://farm.example"),
        ("localhost:8443", "https://localhost:8443"),
    ],
)
def test_the_page_may_use_itself(client, host, origin):
    headers = {"Host": host, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert client.post(PREDICT, json={"data": []}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1:7861",
        "http://127.0.0.1",
        "http://localhost:7860",
        "http://127.0.0.1:7860.evil.example",
        "https://farm.example",
        "127.0.0.1:7860",
    ],
)
@pytest.mark.parametrize("path", [UPLOAD, PREDICT, "/login"])
def test_another_origin_is_refused(client, app, path, origin):
    answer = client.post(path, json={"data": []}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert app.seen == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/config", "/logout", "/gradio_api/heartbeat/a"])
def test_another_site_may_not_read_even_without_an_origin(client, app, path, site):
    assert client.get(path, headers={"Sec-Fetch-Site": site}).status_code == 403
    assert app.seen == []


def test_a_link_of_another_site_may_lead_to_the_page(client):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers={**link, "Sec-Fetch-Dest": "document"}).status_code == 200
    assert client.get("/", headers={**link, "Sec-Fetch-Dest": "iframe"}).status_code == 403


def test_a_preflight_is_refused(client, app):
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert client.options(PREDICT, headers=asked).status_code == 403
    assert client.options(PREDICT, headers=HERE).status_code == 404
    assert app.seen == []


def test_answers_allow_no_other_site_anything(client):
    for answer in (client.get("/", headers=HERE), client.get("/", headers={"Host": "evil"})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


def test_the_cookie_of_a_login_is_for_this_site_only(client):
    cookie = client.post("/login", content="secret", headers=HERE).headers["set-cookie"]
    assert "SameSite=Lax" in cookie
    assert "none" not in cookie.lower()
    assert {"Secure", "HttpOnly"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    "file",
    [
        "http://203.0.113.7/latest/meta-data",
        "https://evil.example/a.mp4",
        "HTTP://evil.example",
        "/etc/passwd",
        "etc/passwd",
        "{folder}/../secret.mp4",
        "{folder}x/secret.mp4",
        "/{folder}/video.mp4",
        "file:{folder}/video.mp4",
        "",
    ],
)
def test_a_file_elsewhere_is_refused(client, app, folder, file):
    path = f"/gradio_api/file={file.format(folder=folder)}"
    assert client.send(request(path)).status_code == 403
    assert app.seen == []


def request(path):
    """A request whose path is sent as it is, with its dots and slashes."""
    made = httpx2.Request("GET", "http://127.0.0.1:7860/")
    made.url = made.url.copy_with(raw_path=path.encode())
    return made


def test_files_of_the_page_are_served(client, folder):
    for file in ("videos/a/playlist.m3u8", "uploads/abc/face.png"):
        assert client.get(f"/gradio_api/file={folder}/{file}").status_code == 200


@pytest.mark.parametrize("path", ["http://203.0.113.7/", "https://a.example/b.png", "/etc/passwd"])
@pytest.mark.parametrize(
    "form",
    [
        '{"data": [GOOD, BAD]}',
        '{"data": [[GOOD, [BAD]]]}',
        '{"data": [{"value": {"path": BAD}}]}',
        '{"event_data": BAD, "data": []}',
        '{"data": [{"path": BAD_PATH, "path": GOOD_PATH}]}',
        '{"data": [{"path": GOOD_PATH, "path": BAD_PATH}]}',
        '{"data": [{"\\u0070ath": BAD_PATH}]}',
    ],
)
def test_a_form_may_name_uploaded_files_only(client, app, folder, form, path):
    good = json.dumps(f"{folder}/uploads/abc/face.png")
    bad = json.dumps(path)
    for name, value in {"GOOD": good, "BAD": bad}.items():
        form = form.replace(f"{name}_PATH", value)
        form = form.replace(name, f'{{"path": {value}, "meta": {{"_type": "gradio.FileData"}}}}')
    answer = client.post(PREDICT, content=form, headers=HERE)
    assert answer.status_code == 403
    assert repr(path) in answer.text
    assert app.seen == []


def test_a_form_reaches_gradio_as_it_was_sent(client, app, folder):
    file = {"path": f"{folder}/uploads/abc/face.png", "url": "http://127.0.0.1:7860/file"}
    body = json.dumps({"data": [file, "http://not.a.path/"], "path": None}).encode()
    assert client.post(PREDICT, content=body, headers=HERE).status_code == 200
    assert app.bodies == [body]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"data": ' + b"1" * 10_000 + b"}"]
)
def test_a_form_that_is_no_json_is_refused(client, app, body):
    assert client.post(PREDICT, content=body, headers=HERE).status_code == 400
    assert app.seen == []


@pytest.mark.parametrize("path", [PREDICT, "/login"])
def test_a_form_that_is_too_large_is_refused(client, app, path):
    body = b'"' + b" " * MAX_BODY_BYTES + b'"'
    assert client.post(path, content=body, headers=HERE).status_code == 413
    assert app.seen == []


def test_a_websocket_is_refused(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/"):
        pass


# Uploads


def test_an_upload_makes_room_by_deleting_the_oldest(client, folder):
    for name in ("a", "b", "c"):
        (folder / "uploads" / name).write_bytes(bytes(300_000))
    assert client.post(UPLOAD, content=bytes(400_000), headers=HERE).status_code == 200
    assert len(list((folder / "uploads").iterdir())) < 3


def test_an_upload_without_login_deletes_nothing(client, app, folder):
    app.logged_in = False
    (folder / "uploads" / "a").write_bytes(bytes(900_000))
    assert client.post(UPLOAD, content=bytes(500_000), headers=HERE).status_code == 401
    assert (folder / "uploads" / "a").exists()


def test_an_upload_that_is_too_large_or_of_unknown_length_is_refused(client, app):
    assert client.post(UPLOAD, content=bytes(700_000), headers=HERE).status_code == 413
    assert client.post(UPLOAD, content=iter([b"a"]), headers=HERE).status_code == 411
    assert app.seen == []


# Logins


def test_wrong_passwords_are_throttled_by_address(gate, app):
    def log_in(address, password, **headers):
        client = TestClient(gate, base_url="http://127.0.0.1:7860", client=(address, 1))
        return client.post("/login", content=password, headers=headers)

    codes = [log_in("203.0.113.7", str(number)).status_code for number in range(50)]
    assert codes == [400] * MAX_FAILURES + [429] * (50 - MAX_FAILURES)
    refused = log_in("203.0.113.7", "secret", **{"X-Forwarded-For": "203.0.113.99"})
    assert refused.status_code == 429, "a client may not choose its own address"
    assert 0 < int(refused.headers["retry-after"]) <= 30
    assert log_in("203.0.113.8", "secret").status_code == 200


def test_right_passwords_are_not_throttled(client):
    codes = {client.post("/login", content="secret").status_code for _ in range(3 * MAX_FAILURES)}
    assert codes == {200}


@pytest.mark.parametrize(("trusted", "status"), [((), 429), (("127.0.0.1",), 400)])
def test_only_a_trusted_proxy_may_say_whose_login_it_is(tmp_path, trusted, status):
    settings = Settings(home=tmp_path, ui_auth="ann:secret", ui_trusted_proxies=trusted)
    address = ListenAddress("127.0.0.1", free_port())
    form = {"username": "ann", "password": "wrong"}
    with (
        open_page(Farm("inline://", settings=settings), address),
        httpx2.Client(base_url=address.url, timeout=60) as client,
    ):
        for number in range(MAX_FAILURES + 1):
            client_address = {"X-Forwarded-For": f"203.0.113.{number}"}
            answer = client.post("/login", data=form, headers=client_address)
    assert answer.status_code == status
