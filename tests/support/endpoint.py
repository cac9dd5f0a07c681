"""A serverless endpoint whose jobs a test moves on, and a farm that is this endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farm.client import Farm
from farm.settings import Settings
from tests.support.api_server import ApiServer, Request

KEY = "rpa_TESTKEY0123"
RUN = "POST /v2/ep/run"


def endpoint_settings(server: ApiServer, home: Path, **changes: Any) -> Settings:
    fields = {"home": home, "runpod_api_key": KEY, "runpod_url": server.url, "caller": "anna"}
    return Settings(**{**fields, **changes})


def farm_of(server: ApiServer, home: Path, **changes: Any) -> Farm:
    return Farm("runpod://ep", settings=endpoint_settings(server, home, **changes))


def accept_jobs(server: ApiServer, *job_ids: str) -> None:
    """The next jobs have these ids, and wait in the queue."""
    for job_id in job_ids:
        server.script(RUN, {"id": job_id, "status": "IN_QUEUE"})
        say(server, job_id, "IN_QUEUE")


def say(server: ApiServer, job_id: str, status: str, **fields: Any) -> None:
    """What is said about a job from now on."""
    request = f"GET /v2/ep/status/{job_id}"
    server.answers[request].clear()
    server.script(request, {"id": job_id, "status": status, **fields})


def say_in_turn(server: ApiServer, job_id: str, *answers: dict[str, Any]) -> None:
    """What is said about a job each time that it is asked for."""
    request = f"GET /v2/ep/status/{job_id}"
    server.answers[request].clear()
    for answer in answers:
        server.script(request, {"id": job_id, **answer})


def posted(server: ApiServer) -> list[Request]:
    """The jobs that were submitted."""
    return server.asked(RUN)


def progress(counter: int, stage: str, pct: float, **details: Any) -> dict[str, Any]:
    """The status of a running job whose handler has reported a stage."""
    output = {"counter": counter, "stage": stage, "pct": pct, "details": details, "job_id": "x"}
    return {"status": "IN_PROGRESS", "output": output}


def result(url: str = "https://example.org/talking.mp4", size: int = 9, **video: Any) -> Any:
    """The contract's result, as our handler returns it."""
    fields = {"url": url, "mime": "video/mp4", "bytes": size, "thumbnail_url": "", **video}
    return {"job_id": "inside", "status": "success", "video": fields, "warnings": ["a note"]}
