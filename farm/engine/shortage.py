"""What becomes of a step whose worker has no room or memory for it: the job is not at fault."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from farm.engine.step_context import DECLINE_S, MAX_DECLINED, Declined, RetryLater
from farm.errors import FULL, FarmUnreachable, UploadFailed, system_errno
from farm.registry import Lease
from farm.route import Step

RETRY_S = 2.0
"""Pause after a child was killed, in which what else took the memory may end."""


@contextmanager
def left_to_others(step: Step, lease: Lease) -> Iterator[None]:
    """Raises Declined if the block finds the temporary folder full, the step's own error once
    MAX_DECLINED attempts have ended so, and RetryLater if a child of the block was killed for lack
    of memory.
    """
    try:
        yield
    except (UploadFailed, FarmUnreachable):  # the store retries its own
        raise
    except Exception as error:
        number = system_errno(error)
        if number in FULL:
            raise _declined(step, lease) from error
        if number == errno.ENOMEM:
            raise RetryLater(f"{step.id}: {error}", after_s=RETRY_S) from error
        raise


def _declined(step: Step, lease: Lease) -> Exception:
    reason = f"{step.id}: the worker's temporary folder {tempfile.gettempdir()} is full"
    if lease.declined < MAX_DECLINED:
        return Declined(reason, after_s=DECLINE_S)
    error = step.spec.failure(
        f"{reason}, and so it was in {MAX_DECLINED} attempts before; either something else "
        "fills it, or the job needs more room than a worker has",
        retryable=True,
    )
    error.retries = 0  # by the farm: that was tried
    return error
