"""Jobs, step records, leases and events: the source of truth of a farm, in Redis or in memory."""

from farm.registry.registry import Registry, check_shared, farm_registry, open_registry
from farm.registry.step_record import Lease

__all__ = ["Lease", "Registry", "check_shared", "farm_registry", "open_registry"]
