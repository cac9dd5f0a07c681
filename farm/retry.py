"""Calls that are repeated while a service is down."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def retry_until(
    call: Callable[[], Answer],
    *,
    timeout_s: float,
    is_retryable: Callable[[Exception], bool],
    delay_s: float,
    max_delay_s: float | None = None,
    on_retry: Callable[[Exception, float], None] | None = None,
) -> Answer:
    """The result of `call`, which is repeated after each retryable error for `timeout_s` at most.

    The delay stays at `delay_s`, or doubles up to `max_delay_s` if that is given. `on_retry` is
    called with the error and the delay before each repetition. Raises the last error.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except Exception as error:
            if not is_retryable(error) or time.monotonic() + delay_s > deadline:
                raise
            if on_retry:
                on_retry(error, delay_s)
        time.sleep(delay_s)
        if max_delay_s is not None:
            delay_s = min(2 * delay_s, max_delay_s)
