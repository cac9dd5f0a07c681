"""The ticket of `notify`."""

from celery import Task

from farm.app import DESKS
from farm.steps.route import NOTIFY
from tasks import app
from tasks.delivery import Ticket, deliver


@app.task(base=Ticket, bind=True, name=DESKS["notify"].task)
def notify(self: Task, job_id: str) -> str:
    return deliver(self, job_id, NOTIFY)
