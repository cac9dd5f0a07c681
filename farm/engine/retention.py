"""How long objects stay that no job owns: uploads, and features shared between jobs.

An object expires FARM_KEEP_SHARED_S after it was written, but not before those that a live job may
use. One that is used in the second half of that time is written anew, so that it outlasts the job.
"""

from __future__ import annotations

from farm.engine.context import Context


def is_fresh(ctx: Context, key: str) -> bool:
    """Whether the store has an object, and it need not be written anew."""
    return key in fresh_keys(ctx, key)


def fresh_keys(ctx: Context, prefix: str) -> set[str]:
    """The objects under a prefix that need not be written anew."""
    keep_s = ctx.settings.keep_shared_s
    written_at = ctx.store.written_at(prefix)
    if keep_s is None:
        return set(written_at)
    limit = ctx.registry.now() - keep_s / 2
    return {key for key, at in written_at.items() if at > limit}


def expired_keys(ctx: Context, prefix: str, *, live_since: float) -> list[str]:
    """Objects that can be removed if no live job was submitted before `live_since`."""
    keep_s = ctx.settings.keep_shared_s
    if keep_s is None:
        return []
    limit = min(live_since, ctx.registry.now()) - keep_s
    return [key for key, at in ctx.store.written_at(prefix).items() if at <= limit]
