"""A farm of real processes that makes videos of 32 x 32 pixels, with leases of seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any
from unittest.mock import patch

from farm.local.broker import Broker
from farm.local.supervisor import FLOWER, Supervisor
from farm.net.address import ListenAddress
from farm.route import CONSUMED, Queue, WorkerKind
from farm.settings import Settings
from tests.support.fork_server import fork_worker

APPLICATION = "tests.support.holdable_app"

DEFAULTS = {"cpu_concurrency": 1, "lease_s": 3, "reap_every_s": 1, "start_timeout_s": 120}
"""One child imports what two would; a lost lease is noticed within seconds."""


KINDS: list[WorkerKind] = [kind for kind in CONSUMED if kind != "bridge"]
"""The workers of a farm without an endpoint."""

QUEUES: list[Queue] = [queue for kind in KINDS for queue in CONSUMED[kind]]
"""What they consume."""


class SmallFarm(Supervisor):
    """A supervisor whose workers have all of its settings; they read them from the environment.

    They are forked from a process that has imported the model, so a replaced one is ready at once,
    and no lease of a few seconds expires while torch is imported.
    """

    def __init__(self, settings: dict[str, Any], *, flower: ListenAddress | None = None) -> None:
        ensure_running()  # the fork server, without the variables of this farm
        self.environ = {f"FARM_{name.upper()}": str(value) for name, value in settings.items()}
        super().__init__(Settings.load(self.environ), application=APPLICATION, flower=flower)

    def _start(self, name: str) -> None:
        with patch.dict(os.environ, self.environ):
            super()._start(name)

    def _spawn(self, name: str, environ: Mapping[str, str]) -> Any:
        if name == FLOWER:
            return super()._spawn(name, environ)
        return fork_worker(self.commands[name], log=self.log(name), environ=environ)

    def restart_dead(self) -> None:
        self.replace_dead(lambda _: None)


@contextmanager
def small_farm(
    home: Path, *, flower: ListenAddress | None = None, **settings: Any
) -> Iterator[SmallFarm]:
    """A running farm with these settings besides the defaults; its registry is a local Redis.

    So is its broker, unless the settings name another one.
    """
    broker = Broker(Settings(home=home))
    own = {"broker_url": broker.url, "registry_url": broker.url}
    given = {**DEFAULTS, **own, **settings, "home": home}
    supervisor = SmallFarm(given, flower=flower)
    try:
        supervisor.start()
        supervisor.wait_until_ready()
        yield supervisor
    finally:
        supervisor.stop()
        broker.stop()
