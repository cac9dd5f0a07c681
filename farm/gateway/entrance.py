"""How requests come in: who sends them, what their bodies hold, and how many are worked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from farm.gateway.access import Access, Tenant
from farm.gateway.body import Limits, read_body

MAX_SUBMISSIONS = 8
"""At once; each may hold a body of 20 MB, and decode the media in it."""

NO_BODY_BYTES = 4_096
"""Bodies of requests that need none: clients send an empty one, or {}."""

Answer = TypeVar("Answer")


class Entrance:
    def __init__(self, access: Access, limits: Limits) -> None:
        self.limits = limits
        self._access = access
        self._submissions: CapacityLimiter | None = None

    async def tenant(self, request: Request) -> Tenant:
        """Raises Refusal for a request that has no valid key, or too many with it.

        Runpod's calls, all below an endpoint, also need a store whose URLs the tenant can read.
        """
        needs_urls = "endpoint" in request.path_params
        return await to_thread.run_sync(self._access.tenant, request.headers, needs_urls)

    async def tenant_without_body(self, request: Request) -> Tenant:
        """The tenant of a request whose body says nothing."""
        tenant = await self.tenant(request)
        await read_body(request, NO_BODY_BYTES, self.limits)
        return tenant

    async def submit(self, call: Callable[[], Answer]) -> Answer:
        """The result of a call that submits jobs, of which only a few are made at once."""
        self._submissions = self._submissions or CapacityLimiter(MAX_SUBMISSIONS)
        return await to_thread.run_sync(call, limiter=self._submissions)
