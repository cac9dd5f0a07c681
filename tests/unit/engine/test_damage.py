"""One flipped bit in an object of a local store: which step says so, and what is computed again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.client import Farm
from farm.engine.context import Context
from farm.errors import CorruptObject
from farm.job import JobStatus
from farm.registry import open_registry
from farm.route import DOWNLOAD, EMBED, MUX, Step
from farm.settings import Settings
from farm.steps.generate import unload_pipeline
from farm.store import keys
from farm.store.local import LocalStore
from tests.support.jobs import TWO_CHUNKS, job_request
from tests.support.steps import run_step
from tests.support.tiny_model import TINY_PRESET, use_tiny_preset

FIRST_CHUNK = Step("generate", 0)
SECOND_CHUNK = Step("generate", 1)
BEFORE_MUX = (DOWNLOAD, EMBED, FIRST_CHUNK, SECOND_CHUNK)
SMALL = {**TWO_CHUNKS, "sample_text_guide_scale": 1.0, "sample_audio_guide_scale": 1.0}


class Harness:
    """Jobs with the same face and voice, in a local store."""

    def __init__(self, ctx: Context, store: LocalStore, face: Path, voice: Path) -> None:
        self.ctx = ctx
        self.store = store
        self.face = keys.upload(face)
        self.fields = {
            "cond_video": keys.SCHEME + self.face,
            "cond_audio": {"person1": keys.SCHEME + keys.upload(voice)},
        }
        for path in (face, voice):
            store.put(keys.upload(path), path)

    def enter(self, job_id: str, *steps: Step) -> None:
        """Enters a job, and runs steps of it."""
        self.ctx.registry.entries.add(
            job_id, job_request(model=TINY_PRESET.name, **SMALL, **self.fields)
        )
        self.run(job_id, *steps)

    def run(self, job_id: str, *steps: Step) -> None:
        for step in steps:
            run_step(self.ctx, job_id, step)
            assert self.ctx.registry.steps.committed(job_id, step.id), step.id

    def status(self, job_id: str) -> JobStatus:
        return self.ctx.registry.jobs.status(job_id)

    def flip(self, key: str) -> bytes:
        """Flips a bit in the middle of an object; its bytes before."""
        path = self.store.root / key
        before = path.read_bytes()
        damaged = bytearray(before)
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        return before

    def key(self, prefix: str, ending: str = "") -> str:
        (only,) = [key for key in self.store.keys(prefix) if key.endswith(ending)]
        return only


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, portrait: Path, word: Path) -> Iterator[Harness]:
    home = tmp_path_factory.mktemp("home")
    store = LocalStore(home / "store")
    with use_tiny_preset(home / "weights") as model:
        ctx = Context(Settings(home=home, **model), store, open_registry("memory://"))
        yield Harness(ctx, store, portrait, word)
    unload_pipeline()


@pytest.mark.parametrize(
    ("before", "reader", "prefix", "ending"),
    [
        (BEFORE_MUX[:1], EMBED, "download/", ".flac"),
        (BEFORE_MUX[:2], FIRST_CHUNK, "download/", "image.png"),
        (BEFORE_MUX[:2], FIRST_CHUNK, "embed/", ".aac"),
        (BEFORE_MUX[:3], SECOND_CHUNK, "generate-0000/", "tail.safetensors"),
        (BEFORE_MUX[:3], SECOND_CHUNK, "generate-0000/", "condition.safetensors"),
        (BEFORE_MUX, MUX, "generate-0000/", "init.mp4"),
        (BEFORE_MUX, MUX, "generate-0001/", "segment.m4s"),
    ],
    ids=["voice", "image", "aac", "tail", "condition", "init", "segment"],
)
def test_a_damaged_object_is_read_twice_and_then_ends_its_job(
    farm, request, before, reader, prefix, ending
):
    job_id = request.node.callspec.id
    farm.enter(job_id, *before)
    key = farm.key(f"jobs/{job_id}/{prefix}", ending)
    written = keys.digest(farm.flip(key))
    assert run_step(farm.ctx, job_id, reader) is None
    with pytest.raises(CorruptObject, match=f"{key} is corrupt: .*, expected '{written}'"):
        run_step(farm.ctx, job_id, reader)
    error = farm.status(job_id).result.error
    assert (error.code, error.retryable) == ("E_CORRUPT_OBJECT", True)


def test_a_damaged_upload_ends_its_job_and_may_be_uploaded_again(farm, portrait):
    farm.enter("uploaded")
    farm.flip(farm.face)
    with pytest.raises(CorruptObject, match=f"^cond_video: {farm.face} is corrupt.*; upload"):
        run_step(farm.ctx, "uploaded", DOWNLOAD)
    assert not farm.status("uploaded").result.error.retryable
    client = Farm("inline://", settings=farm.ctx.settings)
    client.upload(job_request(cond_video=str(portrait)))
    farm.enter("uploaded again", DOWNLOAD)


def test_a_damaged_piece_of_an_embedding_is_computed_again_by_the_next_job(farm):
    farm.enter("embeds", DOWNLOAD, EMBED)
    piece = farm.key("shared/voice/")
    before = farm.flip(piece)
    farm.enter("embeds again", DOWNLOAD, EMBED)
    assert farm.store.get(piece) == before


def test_a_piece_of_an_embedding_that_is_damaged_afterwards_ends_its_job(farm):
    farm.enter("reads", DOWNLOAD, EMBED)
    piece = farm.key("shared/voice/")
    before = farm.flip(piece)
    assert run_step(farm.ctx, "reads", FIRST_CHUNK) is None
    with pytest.raises(CorruptObject, match=f"{piece} is corrupt"):
        run_step(farm.ctx, "reads", FIRST_CHUNK)
    farm.store.put(piece, before)


def test_damaged_features_of_a_prompt_are_computed_again(farm):
    farm.enter("tells", *BEFORE_MUX[:3])
    features = list(farm.store.keys("shared/text/"))
    before = [farm.flip(key) for key in features]
    farm.run("tells", SECOND_CHUNK)
    assert [farm.store.get(key) for key in features] == before
