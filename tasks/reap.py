"""The reaper's round, sent by beat: jobs that nobody works on go on."""

from farm.app import DESKS
from farm.steps.attempt import due
from farm.telemetry import about, log
from farm.workflow import send
from tasks import app
from tasks.delivery import place


@app.task(name=DESKS["reap"].task)
def reap() -> int:
    """How many jobs had to be rung for."""
    rung = 0
    for job_id in place().registry.idle():
        with about(job_id):
            if step := due(place(), job_id):
                log("rung_again", product=step.product)
                send(app, place(), job_id, step)
                rung += 1
    return rung
