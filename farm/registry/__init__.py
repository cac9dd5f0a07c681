"""Jobs, step records, leases and events: the source of truth of a farm, in Redis or in memory."""

from farm.registry.registry import Lease, Registry, open_registry, queued

__all__ = ["Lease", "Registry", "open_registry", "queued"]
