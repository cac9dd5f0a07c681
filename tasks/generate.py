"""The ticket of `generate`, one for each chunk."""

from celery import Task

from farm.app import DESKS
from farm.steps.route import Step
from tasks import app
from tasks.delivery import Ticket, deliver


@app.task(base=Ticket, bind=True, name=DESKS["generate"].task)
def generate(self: Task, job_id: str, chunk: int) -> str:
    return deliver(self, job_id, Step("generate", chunk))
