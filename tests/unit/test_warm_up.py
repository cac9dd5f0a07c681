"""The model of a gpu worker, loaded before its first message."""

from __future__ import annotations

import json

from farm.registry import open_registry
from tests.support.commands import run_python

KILLED = """
import os, signal
from farm.logs import configure
configure()
from farm.tasks.warm_up import report_killed
for _ in range(3):
    child = os.fork()
    if not child:
        report_killed()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_processes_that_are_killed_while_they_load_are_reported_by_the_next():
    done = run_python(KILLED, FARM_BROKER_URL="redis://127.0.0.1:1/0")
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    found = [each["details"] for each in entries if each["event"] == "warm_up_failed"]
    assert [each["in_a_row"] for each in found] == [1, 2]
    assert "most likely for lack of memory" in found[0]["reason"]


BROKEN = """
import sys
sys.modules["torch"] = None  # its installation is broken
from farm.route import CONSUMED
from farm.tasks import celery, heartbeat, warm_up
celery.app.amqp.queues.select(CONSUMED["gpu"])
assert not warm_up.has_failed()
warm_up.warm_up()
heartbeat.send_now()
warm_up.set_warm()  # by a job, after that was repaired
assert not warm_up.has_failed()
"""


def test_a_worker_that_cannot_load_its_model_says_so_with_its_heartbeat(broker, tmp_path):
    run_python(BROKEN, FARM_BROKER_URL=broker, FARM_HOME=str(tmp_path))
    workers = open_registry(broker).workers
    assert workers.cold() == [name for name in workers.alive() if name.startswith("gpu ")]
    assert len(workers.cold()) == 1


KILLED_ONCE = """
from farm.route import CONSUMED
from farm.tasks import celery, warm_up
celery.app.amqp.queues.select(CONSUMED["gpu"])
warm_up.report_killed()
assert not warm_up.has_failed()
warm_up.report_killed()
assert warm_up.has_failed()
"""


def test_a_worker_whose_process_was_killed_while_it_loads_has_failed():
    run_python(KILLED_ONCE, FARM_BROKER_URL="redis://127.0.0.1:1/0")
