"""What is said of a job beside its request: a key in a header, time limits in the query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from starlette.requests import Request

from farm.errors import IdempotencyConflict, InvalidInput
from farm.gateway.refusal import Refusal
from farm.gateway.v1.pages import check_names
from farm.job import TimeLimits, named_as, value_from_text

FIELD, HEADER = "idempotency_key", "Idempotency-Key"


@contextmanager
def contract_errors() -> Iterator[None]:
    """Raises Refusal: 409 for a used idempotency key, 422 for what the contract refuses."""
    try:
        yield
    except InvalidInput as error:
        raise Refusal(409 if isinstance(error, IdempotencyConflict) else 422, error) from None


@dataclass(frozen=True)
class Submission:
    key: str | None
    """Of idempotency."""
    limits: TimeLimits

    @classmethod
    def parse(cls, request: Request) -> Self:
        """Raises Refusal 422."""
        query = request.query_params
        check_names(query, *TimeLimits.model_fields)
        given = {name: value_from_text(TimeLimits, name, text) for name, text in query.items()}
        with contract_errors():
            return cls(request.headers.get(HEADER), TimeLimits.parse(given))

    @contextmanager
    def of(self, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yields the fields of a request with the key; InvalidInput if they have another one."""
        if self.key is None:
            yield fields
            return
        if fields.get(FIELD, self.key) != self.key:
            raise InvalidInput(f"{FIELD}: {HEADER} says otherwise; allowed: one of both")
        with named_as({FIELD: HEADER}):
            yield {**fields, FIELD: self.key}
