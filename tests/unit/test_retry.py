"""Which calls are repeated, for how long and with which delays."""

from __future__ import annotations

import pytest

from farm.retry import retry_until


class Flaky:
    """A call that fails a number of times before it succeeds."""

    def __init__(self, failures: int, error: type[Exception] = OSError) -> None:
        self.calls = 0
        self.failures = failures
        self.error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"failure {self.calls}")
        return "result"


def is_os_error(error: Exception) -> bool:
    return isinstance(error, OSError)


def never(error: Exception, delay_s: float) -> None:
    pytest.fail(f"retried after {error}")


def test_a_call_that_succeeds_is_made_once() -> None:
    call = Flaky(0)
    result = retry_until(call, timeout_s=9, is_retryable=is_os_error, delay_s=9, on_retry=never)
    assert (result, call.calls) == ("result", 1)


def test_a_call_is_repeated_until_it_succeeds() -> None:
    call = Flaky(3)
    assert retry_until(call, timeout_s=9, is_retryable=is_os_error, delay_s=0.001) == "result"
    assert call.calls == 4


@pytest.mark.parametrize(
    ("max_delay_s", "delays"),
    [(None, [0.001, 0.001, 0.001, 0.001]), (0.003, [0.001, 0.002, 0.003, 0.003])],
)
def test_delays_are_constant_or_double_up_to_the_maximum(
    max_delay_s: float | None, delays: list[float]
) -> None:
    seen: list[tuple[str, float]] = []

    def note(error: Exception, delay_s: float) -> None:
        seen.append((str(error), delay_s))

    retry_until(
        Flaky(4),
        timeout_s=9,
        is_retryable=is_os_error,
        delay_s=0.001,
        max_delay_s=max_delay_s,
        on_retry=note,
    )
    assert [delay_s for _, delay_s in seen] == delays
    assert [message for message, _ in seen] == [f"failure {number}" for number in (1, 2, 3, 4)]


def test_an_error_that_is_not_retryable_is_raised_at_once() -> None:
    call = Flaky(3, ValueError)
    with pytest.raises(ValueError, match="failure 1"):
        retry_until(call, timeout_s=9, is_retryable=is_os_error, delay_s=0.001, on_retry=never)


def test_the_last_error_is_raised_at_the_deadline() -> None:
    call = Flaky(1000)
    with pytest.raises(OSError, match="failure") as caught:
        retry_until(call, timeout_s=0.05, is_retryable=is_os_error, delay_s=0.01)
    assert str(caught.value) == f"failure {call.calls}"
    assert 1 < call.calls < 10


def test_no_delay_is_begun_that_would_end_after_the_deadline() -> None:
    call = Flaky(1)
    with pytest.raises(OSError, match="failure 1"):
        retry_until(call, timeout_s=1, is_retryable=is_os_error, delay_s=2, on_retry=never)
