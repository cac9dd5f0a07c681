"""Imports what workers import; the fork server of the tests does so before it forks them.

Not the farm's own application, which reads the environment.
"""

import atexit
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # so that there are no threads that a fork would lose

import celery.apps.worker
import celery.bin.celery
import celery.concurrency.prefork
import celery.worker.consumer  # noqa: F401

import farm.model.audio
import farm.model.pipeline
import farm.steps.embed
import farm.steps.generate
import farm.steps.mux  # noqa: F401
from farm.model.parts import PARTS, model_class

for part in PARTS:
    model_class(part)

atexit.register(os._exit, 0)  # tearing all of it down takes seconds
