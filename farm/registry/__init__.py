"""Jobs, step records, leases and events: the source of truth of a farm, in Redis or in memory."""

from farm.registry.registry import Registry, farm_registry, open_registry
from farm.registry.step_record import Lease

__all__ = ["Lease", "Registry", "farm_registry", "open_registry"]
