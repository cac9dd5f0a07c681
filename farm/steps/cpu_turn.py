"""How many children of the sandbox compute at once for a process, however many steps it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import BoundedSemaphore, Lock
from typing import ParamSpec, TypeVar

from farm.engine.step_context import StepContext

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

POLL_INTERVAL_S = 1.0
"""How often a step that waits for its turn asks whether it is to stop."""

_creating = Lock()


def in_turn(ctx: StepContext, function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """The same function, which waits for one of the FARM_CPU_CONCURRENCY turns of this process.

    Raises WorkerDraining or Cancelled while it waits.
    """

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with _turn(ctx):
            return function(*args, **kwargs)

    return call


@contextmanager
def _turn(ctx: StepContext) -> Iterator[None]:
    with _creating:  # by one of the threads
        turns = _turns(ctx.settings.cpu_concurrency)
    while not turns.acquire(timeout=POLL_INTERVAL_S):
        ctx.raise_if_stopped()
    try:
        yield
    finally:
        turns.release()


@cache
def _turns(number: int) -> BoundedSemaphore:
    return BoundedSemaphore(number)
