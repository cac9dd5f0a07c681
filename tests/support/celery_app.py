"""The same application, but its workers import everything before they fork.

So a child that replaces a killed one is ready at once, and no lease of a few seconds expires while
torch is imported. In production only the children import it (tasks/celery.py).
"""

from __future__ import annotations

from celery.signals import worker_init

from tests.support.holdable_app import app

__all__ = ["app"]


@worker_init.connect
def _import_model(**_: object) -> None:
    """Once logging is set up, because some libraries log while they are imported."""
    if "downloads" in app.amqp.queues.consume_from:
        return
    import farm.model.audio
    import farm.model.pipeline  # noqa: F401
