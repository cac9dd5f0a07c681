"""The model of a gpu worker, loaded before its first message."""

from __future__ import annotations

import json

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
