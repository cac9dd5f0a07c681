"""The steps as Celery tasks: one for each kind of step, one message for each step."""

from celery import Task

from farm.errors import FarmError
from farm.route import STEP_KINDS, Step, StepKind
from farm.tasks.base import StepTask, run_step_task
from farm.tasks.celery import app


def _make_task(kind: StepKind) -> Task:
    # Celery logs no traceback of the farm's own errors: the attempt has logged them in one line.
    @app.task(base=StepTask, bind=True, name=f"farm.{kind}", throws=(FarmError,))
    def run(self: Task, job_id: str, chunk: int = 0) -> str:
        return run_step_task(self, job_id, Step(kind, chunk))

    return run


TASKS = {kind: _make_task(kind) for kind in STEP_KINDS}
