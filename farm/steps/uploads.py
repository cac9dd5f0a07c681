"""Objects that are stored in a thread, while their step goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self

from farm.engine.step_context import StepContext


class Uploads:
    """A context manager: all objects are stored when its block has ended; raises as `Store.put`."""

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._stored: list[Future[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown(cancel_futures=error is not None)
        if error is None:
            for stored in self._stored:
                stored.result()

    def put(self, make: Callable[[], bytes], name: str) -> str:
        """The key under which the thread stores what `make` returns."""

        def store() -> str:
            return self._ctx.put(make(), name)

        self._stored.append(self._threads.submit(copy_context().run, store))
        return self._ctx.key(name)
