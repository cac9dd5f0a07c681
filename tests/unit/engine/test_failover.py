"""A broker that fails over and forgets a lease issues its fencing token again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from farm.engine.context import Context
from farm.engine.step_context import StepContext
from farm.maintenance.gc import find_garbage
from farm.registry import Registry
from farm.registry.attempt_id import fence_of
from farm.route import DOWNLOAD
from farm.settings import Settings
from farm.store.memory import MemoryStore
from tests.support.backends import FailoverBackend
from tests.support.jobs import REQUEST
from tests.support.outputs import download_output
from tests.support.steps import acquire, commit, step_context


@pytest.fixture
def twins(tmp_path: Path) -> tuple[StepContext, StepContext]:
    """Two workers that run the same step under the same fencing token: the first one's lease is
    what the broker has forgotten.
    """
    backend = FailoverBackend()
    ctx = Context(Settings(home=tmp_path), MemoryStore(), Registry(backend))
    ctx.registry.entries.add("a", REQUEST)
    backend.copy_to_replica()
    forgotten = acquire(ctx.registry, DOWNLOAD.id)
    backend.fail_over()
    known = acquire(ctx.registry, DOWNLOAD.id)
    assert fence_of(forgotten.attempt_id) == fence_of(known.attempt_id)
    first, second = (
        replace(
            step_context(ctx, DOWNLOAD, scratch=tmp_path),
            lease=lease,
            registry=Registry(backend),
        )
        for lease in (forgotten, known)
    )
    return first, second


def finish(ctx: StepContext, content: bytes) -> bool:
    """Whether the output of the attempt, an image with this content, became the step's."""
    key = ctx.put(content, "image.png")
    output = download_output(visual_key=key)
    return commit(ctx.registry, ctx.lease, output, digests=ctx.digests)


@pytest.mark.parametrize("forgotten_is_first", [True, False])
def test_the_committed_output_names_the_bytes_of_the_attempt_that_committed(
    twins, forgotten_is_first
):
    forgotten, known = twins
    attempts = [(forgotten, b"forgotten"), (known, b"known")]
    for ctx, content in attempts if forgotten_is_first else reversed(attempts):
        assert finish(ctx, content) == (ctx is known)
    committed = known.registry.steps.committed("a", DOWNLOAD.id)
    assert known.store.get(committed.output.visual_key) == b"known"


def test_the_attempt_whose_lease_was_forgotten_stops_at_its_next_renewal(twins):
    forgotten, known = twins
    assert not forgotten.registry.steps.renew(forgotten.lease, lease_s=60)
    assert known.registry.steps.renew(known.lease, lease_s=60)


@pytest.mark.parametrize("ended", [False, True], ids=["running", "committed"])
def test_what_the_forgotten_attempt_stored_is_garbage(twins, ended):
    forgotten, known = twins
    forgotten.put(b"forgotten", "image.png")
    key = known.put(b"known", "image.png")
    if ended:
        assert finish(known, b"known")
    for garbage in find_garbage(known):
        garbage.remove()
    assert list(known.store.keys("jobs/a/download/")) == [key]
