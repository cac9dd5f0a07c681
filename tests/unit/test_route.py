"""Which step comes after which, and the one table from which all else about steps is derived."""

from __future__ import annotations

import pytest

from farm.errors import FarmError
from farm.route import (
    DOWNLOAD,
    EMBED,
    MUX,
    NOTIFY,
    STEP_KINDS,
    STEP_SPECS,
    Step,
    StepKind,
    next_step,
    steps_of_job,
)
from tests.support.commands import run_python


def route(chunks: int) -> list[str]:
    """Ids of all steps from the first, each the next of the one before."""
    step: Step | None = DOWNLOAD
    step_ids = []
    while step is not None:
        step_ids.append(step.id)
        step = next_step(step, chunks=chunks)
    return step_ids


# The order


def test_a_clip_takes_four_steps():
    assert route(1) == ["download", "embed", "generate-0000", "mux"]


def test_a_longer_video_is_generated_chunk_by_chunk():
    chunks = ["generate-0000", "generate-0001", "generate-0002"]
    assert route(3) == ["download", "embed", *chunks, "mux"]


@pytest.mark.parametrize(
    ("step", "chunks", "after"),
    [
        (DOWNLOAD, None, EMBED),
        (DOWNLOAD, 3, EMBED),
        (EMBED, None, Step("generate", 0)),
        (EMBED, 3, Step("generate", 0)),
        (Step("generate", 0), 1, MUX),
        (Step("generate", 0), 3, Step("generate", 1)),
        (Step("generate", 1), 3, Step("generate", 2)),
        (Step("generate", 2), 3, MUX),
        (MUX, None, None),
        (MUX, 3, None),
        (NOTIFY, None, None),
        (NOTIFY, 3, None),
    ],
    ids=lambda value: value.id if isinstance(value, Step) else str(value),
)
def test_each_step_has_its_next_one(step, chunks, after):
    assert next_step(step, chunks=chunks) == after


@pytest.mark.parametrize("chunk", [0, 7])
def test_nothing_can_follow_a_chunk_as_long_as_their_number_is_unknown(chunk):
    message = f"what follows generate-{chunk:04d} is unknown without the number of chunks"
    with pytest.raises(LookupError, match=message):
        next_step(Step("generate", chunk), chunks=None)


@pytest.mark.parametrize("chunks", [1, 2, 12])
def test_the_steps_of_a_job_are_those_of_its_route(chunks):
    assert [step.id for step in steps_of_job(chunks)] == route(chunks)


def test_a_job_of_unknown_length_has_the_steps_before_its_first_chunk():
    assert steps_of_job(None) == [DOWNLOAD, EMBED]


def test_steps_are_ordered_by_their_position():
    steps = [*steps_of_job(12), NOTIFY]
    backwards = steps[::-1]
    assert sorted(backwards, key=lambda step: step.position) == steps


# Ids


@pytest.mark.parametrize("kind", STEP_KINDS)
@pytest.mark.parametrize("chunk", [0, 7, 9_999, 31_249])
def test_a_step_is_known_by_its_id(kind, chunk):
    step = Step(kind, chunk if STEP_SPECS[kind].per_chunk else 0)
    assert Step.parse(step.id) == step


@pytest.mark.parametrize(
    "step_id",
    [
        "",
        "-",
        "Mux",
        "mux ",
        "mux-",
        "mux-0000",
        "mux-0001",
        "prompt",
        "farm.mux",
        "generate",
        "generate-",
        "generate-7",
        "generate-00007",
        "generate--001",
        "generate-+001",
        "generate- 001",
        "generate-1_00",
        "generate-０００1",
        "generate-0007-0001",
        "generate-last",
        "generate-0007\n",
    ],
)
def test_anything_else_is_no_id(step_id):
    with pytest.raises(ValueError, match=r"^step: got .*; allowed: download, embed, generate-0000"):
        Step.parse(step_id)


# The table


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_every_kind_has_its_spec(kind: StepKind):
    assert Step(kind).spec is STEP_SPECS[kind]
    assert issubclass(STEP_SPECS[kind].failure, FarmError)


def test_the_kinds_stand_in_the_order_of_a_job():
    kinds = [step.kind for step in (*steps_of_job(1), NOTIFY)]
    assert tuple(kinds) == STEP_KINDS


def test_a_row_in_the_table_reaches_tasks_queues_metrics_and_keys():
    # Given a kind of step that runs per chunk and one that does not, known to the table alone
    program = """
        from farm import route
        from farm.errors import FarmError
        from farm.route import StepSpec

        added = {
            "caption": StepSpec("cpu", FarmError),
            "upscale": StepSpec("gpu", FarmError, per_chunk=True),
        }
        route.STEP_SPECS |= added
        route.STEP_KINDS = tuple(route.STEP_SPECS)

        from farm.metrics import METRICS
        from farm.queue.app import TASK_ROUTES
        from farm.queue.brokers.redis import parse_message
        from farm.route import Step
        from farm.store import keys
        from farm.tasks.celery import app
        from farm.tasks.steps import TASKS

        for kind, spec in added.items():
            task = f"farm.{kind}"
            step = Step.parse(Step(kind).id)
            assert TASK_ROUTES[task] == app.conf.task_routes[task]["queue"] == spec.queue
            assert TASKS[kind].name == task and task in app.tasks
            for metric in METRICS:
                assert kind in metric.labels.get("step", [kind]), metric.name
            key = keys.attempt("a", step.id, "0003-0", "segment.m4s")
            assert keys.attempt_of(key) == keys.AttemptKey(step.id, "0003-0")
            assert keys.attempt_of(key.replace(step.id, "other")) is None
            message = TASKS[kind].app.amqp.as_task_v2("0", task, args=["a"])
            assert message.headers["task"] == task
        assert keys.attempt_of("jobs/a/upscale/0003-0/segment.m4s") is None
        assert keys.attempt_of("jobs/a/upscale-00003/0003-0/segment.m4s") is None
        assert keys.attempt_of("jobs/a/upscale-10003/0003-0/segment.m4s") is not None
        assert keys.attempt_of("jobs/a/caption-0000/0003-0/segment.m4s") is None
        print("reached")
    """
    done = run_python(program, FARM_BROKER_URL="redis://127.0.0.1:1/0")
    assert done.stdout == "reached\n"


@pytest.mark.parametrize(
    ("step", "earlier"),
    [
        (DOWNLOAD, []),
        (EMBED, ["download"]),
        (Step("generate", 0), ["download", "embed"]),
        (Step("generate", 1), ["download", "embed", "generate-0000"]),
        (Step("generate", 7), ["download", "embed", "generate-0000", "generate-0006"]),
    ],
    ids=lambda value: value.id if isinstance(value, Step) else "",
)
def test_what_a_step_reads_is_known_before_it_runs(step, earlier):
    assert [each.id for each in step.reads] == earlier
