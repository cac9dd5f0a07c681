"""A Runpod on the loopback: its queue API, and the control plane that drives its SDK's worker loop.

`fake_runpod()` runs one; `start_worker` starts a process that takes jobs from it. Both speak
HTTP, so that what is tested is the real SDK and the real clients. Where Runpod's documentation says
nothing, it does what `tests/integration/test_runpod_wire.py` states.
"""

from tests.support.runpod.endpoint import Endpoint
from tests.support.runpod.faults import Fault
from tests.support.runpod.job import RemoteJob
from tests.support.runpod.server import KEY, FakeRunpod, fake_runpod
from tests.support.runpod.worker import Worker, start_worker

__all__ = [
    "KEY",
    "Endpoint",
    "FakeRunpod",
    "Fault",
    "RemoteJob",
    "Worker",
    "fake_runpod",
    "start_worker",
]
