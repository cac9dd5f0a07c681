"""How the page shows a job."""

from __future__ import annotations

from farm.errors import InvalidInput
from farm.job import JobStatus
from farm.ui import view
from farm.ui.history import item

NOW = {"job_id": "a", "created_at": 0.0, "updated_at": 0.0}


def status(**fields):
    return JobStatus.model_validate(
        {"state": "running", "stage": "queued", "pct": 0.0, "details": {}, **NOW, **fields}
    )


SAMPLING = status(
    stage="chunk_1_sampling_7",
    pct=31.4,
    details={"chunk": 1, "chunks": 4, "step": 3, "steps": 40, "eta_s": 71.6},
)
ERROR = {
    "code": "E_X",
    "message": "<b>no</b>",
    "retryable": False,
    "at_stage": "mux",
    "cause_class": "",
    "cause_message": "",
}


def failed(**fields):
    return status(
        state="error", result={"job_id": "a", "status": "error", "error": {**ERROR, **fields}}
    )


def test_a_running_job_shows_its_chunk_step_and_remaining_time():
    bar = view.bar(SAMPLING)
    assert "31 % · sampling · chunk 2 of 4, step 3 of 40, 72 s left" in bar
    assert 'role="progressbar" aria-label="Progress of the video" aria-valuenow="31"' in bar


def test_what_is_read_aloud_changes_with_the_chunk_but_not_with_each_step():
    assert view.spoken(SAMPLING) == "sampling, chunk 2 of 4"
    assert view.spoken(status(state="success", pct=100.0)) == "The video is done"


def test_a_waiting_job_shows_for_what_and_how_long():
    waiting = view.waiting("a GPU", 3, 170)
    assert waiting == "waiting for a GPU: 2 before you, about 3 min"
    assert f"15 % · {waiting}</div>" in view.bar(status(stage="embeddings_ok", pct=15.0), waiting)
    assert view.waiting("a worker", 1) == "waiting for a worker: you are next"


def test_an_error_is_shown_as_an_alert_with_escaped_text():
    bar = view.bar(failed(code="E_INPUT_VALIDATION"))
    assert 'role="alert"' in bar
    assert 'title="E_INPUT_VALIDATION">&lt;b&gt;no&lt;/b&gt;.</p>' in bar


def test_an_error_of_the_farm_has_what_its_operator_asks_for():
    bar = view.bar(failed(code="E_OOM", message="CUDA out of memory"))
    assert "Choose a smaller size under Advanced.\nE_OOM, job a</p>" in bar
    assert "CUDA" not in bar


def test_a_cancelled_job_says_by_whom_without_the_stage():
    cancelled = failed(code="E_CANCELLED", message="cancelled by you at downloads_started")
    bar = view.bar(cancelled.model_copy(update={"state": "cancelled"}))
    assert ">It was cancelled by you.</p>" in bar


def test_each_mistake_is_a_line_of_the_alert():
    assert ">A: no.\nB: no.</p>" in view.alert(InvalidInput("a: no\nb: no"))


def test_a_video_shows_its_warnings():
    bar = view.bar(
        status(
            state="success",
            pct=100.0,
            updated_at=200.0,
            warnings=("cut at 81",),
            result={"job_id": "a", "status": "success", "warnings": ("cut at 81",)},
        )
    )
    assert "100 % · done · took 3 min" in bar
    assert "cut at 81</p>" in bar


def test_a_job_in_the_list_shows_how_it_stands():
    assert item(status(pct=12.6), "Hello", chosen=True, kept=True) == {
        "id": "a",
        "title": "Hello",
        "facts": "running 13 %",
        "at": 0.0,
        "image": None,
        "chosen": True,
        "kept": True,
    }


def test_a_finished_job_in_the_list_shows_both_lengths():
    result = {"job_id": "a", "status": "success", "params": {"frames": 81}}
    done = status(state="success", updated_at=40.0, result=result)
    assert (
        item(done, "Hello", chosen=False, kept=True)["facts"] == "done · 3.2 s of video · took 40 s"
    )


def test_a_title_is_escaped_in_the_list():
    assert item(status(), "<b>", chosen=False, kept=True)["title"] == "&lt;b&gt;"


def test_each_model_says_what_it_is_good_for():
    assert "<b>miniature</b>: drawn faces only" in view.models(["miniature"])
