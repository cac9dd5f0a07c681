"""The steps as Celery tasks, one message each; `generate` has one for each chunk."""

from celery import Task

from farm.engine.route import NOTIFY, Step
from farm.queue.app import DESKS
from tasks.base import Ticket, deliver
from tasks.celery import app


@app.task(base=Ticket, bind=True, name=DESKS["download"].task)
def download(self: Task, job_id: str) -> str:
    return deliver(self, job_id, Step("download"))


@app.task(base=Ticket, bind=True, name=DESKS["embed"].task)
def embed(self: Task, job_id: str) -> str:
    return deliver(self, job_id, Step("embed"))


@app.task(base=Ticket, bind=True, name=DESKS["generate"].task)
def generate(self: Task, job_id: str, chunk: int) -> str:
    return deliver(self, job_id, Step("generate", chunk))


@app.task(base=Ticket, bind=True, name=DESKS["mux"].task)
def mux(self: Task, job_id: str) -> str:
    return deliver(self, job_id, Step("mux"))


@app.task(base=Ticket, bind=True, name=DESKS["notify"].task)
def notify(self: Task, job_id: str) -> str:
    return deliver(self, job_id, NOTIFY)
