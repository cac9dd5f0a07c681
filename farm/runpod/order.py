"""An order: one attempt at one chunk, as it leaves the farm for a remote worker.

It holds what the chunk needs and no more: the outputs that it reads, cut down to what it reads of
them, and signed URLs for the objects of this attempt. No credentials, no source of the caller's, no
webhook. Its format is that of all records, so a worker of another version refuses it by name.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict

from farm.engine.step_context import StepContext
from farm.errors import InvalidInput
from farm.job import ResolvedRequest
from farm.job.request import CondAudio
from farm.plan import Chunk
from farm.registry import Lease
from farm.registry.formats import dump, load
from farm.registry.outputs import ChunkOutput, Committed, SegmentLinks
from farm.route import Step
from farm.steps.chunk_objects import keys_read
from farm.store import keys
from farm.store.s3 import S3Store
from farm.store.signed import Grants

FIELD = "order"
"""The field of a payload that has an order."""

ANSWER = "answer.json"
"""What a remote attempt writes last: its output, sealed, with timings and digests."""

LOST_WORKERS = "lost-workers"
"""How many workers have begun with an order and were lost, as a number."""

WRITES = (
    "segment.m4s",
    "init.mp4",
    "condition.safetensors",
    "tail.safetensors",
    LOST_WORKERS,
    ANSWER,
)

WITHHELD = "withheld"
"""In place of a source, which was downloaded long ago."""


class Order(BaseModel):
    """One attempt at one chunk."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    job_id: str
    chunk: int
    attempt_id: str
    declined: int = 0
    """Attempts before that left the chunk to a worker with other weights."""
    request: ResolvedRequest
    outputs: dict[str, Committed]
    """By step, without the keys that this chunk does not read."""
    grants: Grants
    timeout_s: float
    """How long the chunk may take once it has the GPU, loading of the model included."""

    @property
    def step(self) -> Step:
        return Step("generate", self.chunk)

    @property
    def lease(self) -> Lease:
        """The lease of the attempt, which the bridge holds and renews."""
        return Lease(self.job_id, self.step.id, self.attempt_id, attempts=1, declined=self.declined)

    def key(self, name: str) -> str:
        """The key of an object of this attempt."""
        return keys.attempt(self.job_id, self.step.id, self.attempt_id, name)

    @property
    def payload(self) -> dict[str, Any]:
        """The order as the input of a serverless job."""
        return {FIELD: json.loads(dump(self))}


def parse_order(payload: dict[str, Any]) -> Order:
    """The order in the input of a serverless job.

    Raises InvalidInput if the input has other fields, VersionSkew for an order that this version
    cannot read.
    """
    others = payload.keys() - {FIELD}
    if others:
        raise InvalidInput(f"input: got {FIELD} with {', '.join(sorted(others))}; allowed: alone")
    return load(json.dumps(payload[FIELD]), Order, name="the order")


def make_order(ctx: StepContext, store: S3Store, chunk: Chunk, *, valid_s: int) -> Order:
    """The order for an attempt; its URLs are valid for `valid_s` seconds."""
    reads = keys_read(ctx, chunk)
    named = [key for key in (*reads, *_init_key(ctx, chunk)) if not key.startswith(keys.SHARED)]
    for key in named:
        ctx.sha256_of(key)  # notes the output that has it in ctx.inputs
    prefix = keys.attempt(ctx.job_id, ctx.step.id, ctx.lease.attempt_id, "")
    return Order(
        job_id=ctx.job_id,
        chunk=chunk.index,
        attempt_id=ctx.lease.attempt_id,
        declined=ctx.lease.declined,
        request=_without_sources(ctx.request),
        outputs={step_id: _cut_down(read, named) for step_id, read in ctx.inputs.items()},
        grants=store.grant(
            reads=[*reads, prefix + LOST_WORKERS, prefix + ANSWER],
            writes=[prefix + name for name in WRITES],
            seconds=valid_s,
        ),
        timeout_s=ctx.settings.step_timeout_s,
    )


def _init_key(ctx: StepContext, chunk: Chunk) -> list[str]:
    """The initialisation section of the chunk before, whose digest is compared, if there is one."""
    return [ctx.chunk_output(chunk.index - 1).init_key] if chunk.index else []


def _without_sources(request: ResolvedRequest) -> ResolvedRequest:
    """The request with as many speakers, but nothing that a chunk does not need."""
    two = request.speakers == 2
    return request.model_copy(
        update={
            "cond_video": WITHHELD,
            "cond_audio": CondAudio(person1=WITHHELD, person2=WITHHELD if two else None),
            "tts_audio": None,
            "audio_type": "para" if two else None,
            "output_config": None,
            "webhook": None,
            "idempotency_key": None,
        }
    )


def _cut_down(committed: Committed, needed: Collection[str]) -> Committed:
    """An output without links, and without keys and digests of other objects."""
    output = committed.output
    update: dict[str, Any] = {}
    for name, value in output:
        if name.endswith("_keys"):
            update[name] = tuple(key if key in needed else "" for key in value)
        elif name.endswith("_key") and value is not None and value not in needed:
            update[name] = ""
    if isinstance(output, ChunkOutput):
        update["links"] = SegmentLinks(init="", segment="")
    digests = {key: digest for key, digest in committed.digests.items() if key in needed}
    return committed.model_copy(
        update={"output": output.model_copy(update=update), "digests": digests}
    )
