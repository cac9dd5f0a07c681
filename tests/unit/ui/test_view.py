"""How the page shows a job."""

from __future__ import annotations

from farm.job import JobStatus
from farm.ui import view

NOW = {"job_id": "a", "created_at": 0.0, "updated_at": 0.0}


def status(**fields):
    return JobStatus.model_validate(
        {"state": "running", "stage": "queued", "pct": 0.0, "details": {}, **NOW, **fields}
    )


def test_a_running_job_shows_its_chunk_step_and_remaining_time():
    details = {"chunk": 1, "chunks": 4, "step": 3, "steps": 40, "eta_s": 71.6}
    bar = view.bar(status(stage="chunk_1_sampling_7", pct=31.4, details=details))
    assert "31 % · sampling · chunk 2 of 4, step 3 of 40, 72 s left" in bar
    assert 'aria-valuenow="31"' in bar


def test_an_error_is_shown_as_an_alert_with_escaped_text():
    error = {
        "code": "E_X",
        "message": "<b>no</b>",
        "retryable": False,
        "at_stage": "mux",
        "cause_class": "",
        "cause_message": "",
    }
    bar = view.bar(status(state="error", result={"job_id": "a", "status": "error", "error": error}))
    assert "<b>E_X</b> &lt;b&gt;no&lt;/b&gt;</p>" in bar
    assert '<p role="alert"' in bar


def test_a_video_shows_its_warnings():
    bar = view.bar(
        status(
            state="success",
            pct=100.0,
            warnings=("cut at 81",),
            result={"job_id": "a", "status": "success", "warnings": ("cut at 81",)},
        )
    )
    assert "100 % · success" in bar
    assert "cut at 81</p>" in bar


def test_a_list_item_shows_prompt_state_and_progress():
    running = {"id": "a", "line": "a man · running 13 % · a", "chosen": True}
    assert view.list_item(status(pct=12.6), "a man", chosen=True) == running
    assert (
        view.list_item(status(state="queued"), "a man", chosen=False)["line"]
        == "a man · queued · a"
    )


def test_a_prompt_is_escaped_in_the_list():
    assert view.list_item(status(), "<b>", chosen=False)["line"] == "&lt;b&gt; · running 0 % · a"
