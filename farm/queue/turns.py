"""Turns at hosts: a worker runs a few downloads from one host at once, so slow ones leave room.

A job beyond them waits in line, in the registry: it holds no thread, no message and no lease. Its
step is postponed, and whatever leaves a turn free dispatches it at once. If every worker with turns
at its host is killed, those that take over their downloads find the line as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from threading import Lock

from celery import Celery

from farm.engine.advance import claim_step
from farm.engine.context import Context
from farm.engine.sources import source_hosts
from farm.errors import FarmError
from farm.logs import log
from farm.queue.dispatch import redispatch
from farm.route import DOWNLOAD, Step


class HostTurns:
    """The turns of one worker: `per_host` for each host."""

    def __init__(self, app: Celery, context: Callable[[], Context], *, per_host: int) -> None:
        """`context` is called when the first job comes: children open theirs after the fork."""
        self._app = app
        self._context = context
        self._per_host = per_host
        self._lock = Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def turn(self, job_id: str) -> Iterator[bool]:
        """Whether the job may download now; otherwise its step is postponed."""
        hosts = self._hosts(job_id)
        full_host = self._take(hosts)
        try:
            if full_host:
                self._postpone(job_id, full_host)
            yield full_host is None
        finally:
            if full_host is None:
                self._give_back(hosts)
            # Also after a postponement: a turn may have become free before the job stood in line.
            for host in hosts:
                self._dispatch_waiting(host)

    @property
    def _ctx(self) -> Context:
        return self._context()

    def _hosts(self, job_id: str) -> Set[str]:
        try:
            return source_hosts(self._ctx.registry.jobs.request(job_id))
        except FarmError:  # the attempt meets it too, and ends the job with it
            return set()

    def _take(self, hosts: Set[str]) -> str | None:
        """Takes a turn at all hosts, or none: then a host whose turns are all taken."""
        with self._lock:
            for host in hosts:
                if self._taken[host] >= self._per_host:
                    return host
            self._taken.update(hosts)
            return None

    def _give_back(self, hosts: Set[str]) -> None:
        with self._lock:
            self._taken.subtract(hosts)
            self._taken += Counter()  # drops hosts without any

    def _free(self, host: str) -> int:
        with self._lock:
            return self._per_host - self._taken[host]

    def _postpone(self, job_id: str, host: str) -> None:
        """Puts a job in line, unless its message is a duplicate.

        In this order, because who stands in line may be dispatched.
        """
        due_in_s = self._ctx.settings.redispatch_after_s
        if self._ctx.registry.steps.postpone(job_id, DOWNLOAD.id, due_in_s=due_in_s):
            log("download_postponed", host=host)
            self._ctx.registry.hosts.line_up(host, job_id)

    def _dispatch_waiting(self, host: str) -> None:
        """Dispatches as many waiting jobs as there are free turns, whichever worker takes them."""
        free = self._free(host)
        lines = self._ctx.registry.hosts
        while free > 0 and (waiting := lines.first(host, free)):
            for job_id in waiting:
                lines.leave(host, job_id)
                free -= redispatch(self._app, self._ctx, job_id, _claim_postponed)


def _claim_postponed(ctx: Context, job_id: str) -> Step | None:
    if ctx.registry.jobs.is_over(job_id):
        return None
    return claim_step(ctx, job_id, DOWNLOAD, early=True)
