"""The ticket of `mux`."""

from celery import Task

from farm.app import DESKS
from farm.steps.route import Step
from tasks import app
from tasks.delivery import Ticket, deliver


@app.task(base=Ticket, bind=True, name=DESKS["mux"].task)
def mux(self: Task, job_id: str) -> str:
    return deliver(self, job_id, Step("mux"))
