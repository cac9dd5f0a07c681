"""`farm endpoint`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from farm.cli import cli
from tests.support.api_server import api_server
from tests.support.cli import Run, error_line
from tests.support.runpod_rest import KEY, RestServer

SECRET = "hunter22"
FILE = {
    "name": "talking",
    "image": "registry.example.org/farm:gpu",
    "gpu": {"pools": ["ADA_48_PRO", "AMPERE_80"], "count": 2},
    "workers": {"min": 0, "max": 3, "idle_timeout_s": 30},
    "scaling": {"type": "QUEUE_DELAY", "queue_delay_s": 4},
    "timeout_s": 3600,
    "env": {"FARM_PRESETS": "infinitetalk-480", "S3_SECRET_KEY": {"$env": "S3_SECRET_KEY"}},
}
HEALTH = {
    "jobs": {"inQueue": 4, "inProgress": 1, "completed": 10, "failed": 2, "retried": 3},
    "workers": {},
}


@pytest.fixture
def server() -> Iterator[RestServer]:
    with api_server(RestServer) as running:
        yield running


@pytest.fixture
def run(server: RestServer, tmp_path: Path) -> Run:
    environ = {
        "FARM_HOME": str(tmp_path / "home"),
        "FARM_RUNPOD_REST_URL": server.url,
        "FARM_RUNPOD_URL": f"{server.url}/queue",
        "RUNPOD_API_KEY": KEY,
        "S3_SECRET_KEY": SECRET,
        "COLUMNS": "200",
    }

    def call(*args: str, stdin: str | None = None, **variables: str | None) -> Result:
        return CliRunner().invoke(cli, ["endpoint", *args], input=stdin, env=environ | variables)

    return call


@pytest.fixture
def file(tmp_path: Path) -> str:
    return write(tmp_path)


def write(folder: Path, **changes: Any) -> str:
    path = folder / "endpoint.json"
    path.write_text(json.dumps({**FILE, **changes}))
    return str(path)


@pytest.fixture
def created(run: Run, file: str) -> str:
    """The id of an endpoint as the file describes it."""
    return run("create", file).stdout.strip()


def test_create_prints_the_id_and_the_way_to_use_it(run, server, file):
    made = run("create", file)
    assert (made.exit_code, made.stdout) == (0, "ep1\n")
    assert "FARM_BROKER_URL=runpod://ep1" in made.stderr
    endpoint = server.endpoints["ep1"]
    assert (endpoint["type"], endpoint["timeout"], endpoint["env"]["S3_SECRET_KEY"]) == (
        "QUEUE",
        3_600_000,
        SECRET,
    )


def test_create_as_json_shows_no_variable(run, file):
    made = run("create", file, "--json")
    assert json.loads(made.stdout)["env"] == {"FARM_PRESETS": "***", "S3_SECRET_KEY": "***"}
    assert SECRET not in made.output


def test_a_dry_run_prints_the_request_without_a_key_and_sends_nothing(run, server, file):
    without = {"RUNPOD_API_KEY": None}
    printed = run("create", file, "--dry-run", **without)
    line, _, body = printed.stdout.partition("\n")
    assert (printed.exit_code, line) == (0, f"POST {server.url}/serverless")
    assert json.loads(body)["env"] == {"FARM_PRESETS": "infinitetalk-480", "S3_SECRET_KEY": "***"}
    assert run("update", "ep1", file, "--dry-run", **without).stdout.startswith(
        f"PATCH {server.url}/serverless/ep1\n"
    )
    assert run("delete", "ep1", "--dry-run", **without).stdout == (
        f"DELETE {server.url}/serverless/ep1\n"
    )
    assert server.requests == []


def test_a_dry_run_prints_what_create_sends(run, server, file):
    printed = json.loads(run("create", file, "--dry-run").stdout.partition("\n")[2])
    run("create", file)
    (sent,) = server.sent("POST")
    assert {**sent.json, "env": printed["env"]} == printed


def test_an_unknown_pool_is_refused_before_anything_is_created(run, server, tmp_path):
    file = write(tmp_path, gpu={"pools": ["ADA_48"]})
    assert "gpu.pools: got 'ADA_48'" in error_line(run("create", file))
    assert server.sent("POST") == []


def test_an_invalid_file_is_refused_before_anything_is_sent(run, server, tmp_path):
    file = write(tmp_path, worker={})
    assert "worker: there is no such field; did you mean workers?" in error_line(
        run("create", file)
    )
    assert server.requests == []


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize(
    "command",
    [("create", "FILE"), ("create", "FILE", "--dry-run"), ("update", "ep1", "FILE", "--dry-run")],
)
def test_a_variable_that_is_not_set_is_named(run, server, file, command, value):
    args = [file if each == "FILE" else each for each in command]
    line = error_line(run(*args, S3_SECRET_KEY=value))
    assert "env.S3_SECRET_KEY: S3_SECRET_KEY is not set" in line
    assert server.requests == []


@pytest.mark.parametrize(
    "command", [("create", "FILE"), ("show", "ep1"), ("delete", "ep1"), ("update", "ep1", "FILE")]
)
def test_without_a_key_every_command_is_one_line(run, server, file, command):
    args = [file if each == "FILE" else each for each in command]
    assert "RUNPOD_API_KEY: it is not set" in error_line(run(*args, RUNPOD_API_KEY=None))
    assert server.requests == []


def test_a_refused_key_is_one_line_without_it(run, file):
    line = error_line(run("create", file, RUNPOD_API_KEY="rpa_wrong"))
    assert "RUNPOD_API_KEY: Runpod refuses it for this (missing bearer token)" in line
    assert "rpa_wrong" not in line


def test_a_problem_is_one_sentence_with_its_fields(run, server, file):
    problem = {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "Request validation failed.",
        "errors": [{"field": "body.timeout", "message": "too large"}],
    }
    server.script("POST /v2/serverless", problem, 422)
    line = error_line(run("create", file))
    assert "HTTP 422: Request validation failed.; body.timeout: too large" in line


def test_an_endpoint_that_may_have_been_created_is_not_created_again(run, server, file):
    server.script("POST /v2/serverless", {}, 502)
    assert "HTTP 502" in error_line(run("create", file), status=3)
    assert len(server.sent("POST")) == 1


def test_update_shows_the_differences_and_asks(run, server, created, tmp_path):
    file = write(tmp_path, image="registry.example.org/farm:new", workers={"max": 5})
    refused = run("update", created, file, stdin="n\n")
    assert refused.exit_code == 1
    assert refused.stdout == (
        "image: registry.example.org/farm:gpu -> registry.example.org/farm:new\n"
        "workers.max: 3 -> 5\n"
    )
    assert server.sent("PATCH") == []
    assert run("update", created, file, stdin="y\n").exit_code == 0
    (sent,) = server.sent("PATCH")
    assert sent.json == {"image": "registry.example.org/farm:new", "workers": {"max": 5}}
    assert server.endpoints[created]["workers"] == {"min": 0, "max": 5, "idleTimeout": 30}


def test_an_update_of_a_secret_shows_neither_value(run, server, created, file):
    updated = run("update", created, file, "--yes", S3_SECRET_KEY="another1")
    assert updated.stdout == "env.S3_SECRET_KEY: *** -> ***\nchanged\n"
    assert server.endpoints[created]["env"]["S3_SECRET_KEY"] == "another1"


def test_an_update_without_differences_changes_nothing(run, server, created, file):
    assert run("update", created, file).stdout == "nothing differs\n"
    assert server.sent("PATCH") == []


def test_show_has_workers_queue_price_and_costs(run, server, created):
    server.workers[created] = [
        {
            "id": "w1",
            "status": "RUNNING",
            "isStale": False,
            "gpuTypeId": "NVIDIA L40S",
            "dataCenterId": "EU-RO-1",
            "uptimeSeconds": 3600,
            "gpuCount": 2,
        },
        {"id": "w2", "status": "INITIALIZING", "isStale": True, "version": 3, "gpuCount": 2},
    ]
    server.costs = [
        {"serverlessId": created, "totalAmount": 1.5},
        {"serverlessId": created, "totalAmount": 2.25},
        {"serverlessId": "other", "totalAmount": 100},
    ]
    server.script(f"GET /v2/queue/{created}/health", HEALTH)
    shown = run("show", created)
    assert (shown.exit_code, shown.stdout.splitlines()) == (
        0,
        [
            "talking  ep1  registry.example.org/farm:gpu",
            "workers: 1 initializing, 1 running; 1 stale; 0 to 3 allowed",
            "  w1  running  NVIDIA L40S  EU-RO-1  up 3600 s",
            "  w2  initializing  no GPU yet  stale, version 3",
            "queue: 4 waiting, 1 running; 10 completed, 2 failed, 3 retried",
            "price: 3.80 USD an hour for each worker in ADA_48_PRO",
            "price: 5.44 USD an hour for each worker in AMPERE_80",
            "spent: 3.75 USD in the last 30 days",
        ],
    )
    assert SECRET not in run("show", created, "--json").stdout


def test_show_without_the_right_to_billing_leaves_the_costs_out(run, server, created):
    server.script(f"GET /v2/queue/{created}/health", HEALTH)
    query = f"bucketSize=day&lastN=30&serverlessId={created}"
    server.script(f"GET /v2/billing/serverless?{query}", {"detail": "access denied"}, 403)
    shown = run("show", created)
    assert (shown.exit_code, "spent" in shown.stdout) == (0, False)
    assert "workers: none; 0 stale; 0 to 3 allowed" in shown.stdout


def test_delete_asks_and_names_the_endpoint(run, server, created):
    kept = run("delete", created, stdin="n\n")
    assert (kept.exit_code, created in server.endpoints) == (1, True)
    assert "delete talking (ep1) with all its jobs?" in kept.stderr
    assert run("delete", created, "--yes").stdout == "deleted\n"
    assert server.endpoints == {}


@pytest.mark.parametrize("name", ["..", "a/b", "", "ep1?x=1"])
def test_an_id_that_would_lead_to_another_path_is_refused(run, server, name):
    assert "endpoint: got" in error_line(run("delete", name, "--yes"))
    assert server.requests == []


def test_an_unknown_endpoint_is_one_line(run):
    assert "HTTP 404: resource not found" in error_line(run("show", "unknown"))
