"""One video, one set of weights, whatever happens to the workers in the middle of its job."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from safetensors.torch import load_file, save_file

from farm.engine.advance import claim_due_step
from farm.engine.context import Context
from farm.errors import WeightsChanged
from farm.model.weights.fingerprint import UNREMEMBERED, checkpoint_fingerprint
from farm.registry.outputs import ChunkOutput
from farm.route import MUX, Step, steps_of_job
from farm.steps.generate import unload_pipeline
from farm.steps.weights import DECLINE_S, MAX_DECLINED
from tests.support.harness import Harness, open_harness
from tests.support.steps import run_step
from tests.support.tiny_model import TINY_PRESET, use_tiny_preset

EXAMPLES = Path(__file__).parents[3] / "examples"

Made = Callable[..., list[ChunkOutput]]
"""Makes two chunks, by workers on whose devices these formats are the quick ones."""

FIRST, SECOND = (Step("generate", chunk) for chunk in (0, 1))
SMALL = {
    "mode": "streaming",
    "frame_num": 5,
    "motion_frame": 1,
    "max_frame_num": 8,
    "sample_steps": 1,
}
"""Two chunks of five frames."""


@dataclass
class Farm:
    """A job whose first chunk the old worker has made, and a worker with other weights."""

    job: Harness
    old: Context
    upgraded: Context

    def wait(self) -> Step | None:
        """The step that the reaper dispatches after the pause."""
        assert claim_due_step(self.old, "a") is None, "not before"
        self.job.clock.advance(DECLINE_S)
        return claim_due_step(self.old, "a")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Folders of weights: of the second one's transformer every value is larger by 30 %."""
    old, upgraded = (tmp_path_factory.mktemp(name) for name in ("old", "upgraded"))
    with use_tiny_preset(old):
        folder = shutil.copytree(old / TINY_PRESET.name, upgraded / TINY_PRESET.name)
        file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
        scaled = {name: 1.3 * each for name, each in load_file(file).items()}
        save_file(scaled, file, metadata={"format": "pt"})
        yield old, upgraded
    unload_pipeline()


@pytest.fixture
def farm(roots: tuple[Path, Path], tmp_path: Path) -> Farm:
    job = open_harness(tmp_path, EXAMPLES / "portrait.png", EXAMPLES / "speech.wav")
    job.enter(model=TINY_PRESET.name, **SMALL)
    old, upgraded = (
        Context(
            job.ctx.settings.model_copy(update={"presets": (TINY_PRESET.name,), "weights": root}),
            job.ctx.store,
            job.ctx.registry,
        )
        for root in roots
    )
    for step in steps_of_job(2)[:3]:
        assert run_step(old, "a", step) is not None
    return Farm(job, old, upgraded)


def test_a_worker_with_other_weights_leaves_the_chunk_to_one_with_the_first(farm):
    # When the upgraded worker gets the second chunk
    assert run_step(farm.upgraded, "a", SECOND) is None
    # Then the attempt is not counted, and after a pause the old worker finishes the video
    assert farm.job.committed(SECOND) is None
    assert farm.job.registry.steps.attempts("a", SECOND.id) == 0
    assert farm.wait() == SECOND
    assert run_step(farm.old, "a", SECOND) == MUX
    chunks = [farm.job.committed(step).output for step in (FIRST, SECOND)]
    assert chunks[0].weights == chunks[1].weights


def test_a_job_whose_weights_no_worker_has_any_more_fails_with_both_fingerprints(farm):
    # Given that all workers have been upgraded
    for _ in range(MAX_DECLINED):
        assert run_step(farm.upgraded, "a", SECOND) is None
        assert farm.wait() == SECOND
    # When one more of them gets the chunk
    with pytest.raises(WeightsChanged):
        run_step(farm.upgraded, "a", SECOND)
    # Then the job is over, and its error says what differs
    assert (farm.job.status.state, farm.job.failure.code) == ("error", "E_WEIGHTS_CHANGED")
    assert farm.job.failure.retryable
    for ctx in (farm.old, farm.upgraded):
        folder = TINY_PRESET.folder(ctx.settings.weights_folder)
        _, video = checkpoint_fingerprint(folder, UNREMEMBERED).split("-")
        assert video in farm.job.failure.message
    assert claim_due_step(farm.old, "a") is None


def test_a_worker_that_quantises_by_itself_has_other_weights(farm):
    quantising = farm.old.settings.model_copy(update={"quant": "int8"})
    ctx = Context(quantising, farm.old.store, farm.old.registry)
    assert run_step(ctx, "a", SECOND) is None
    assert farm.job.committed(SECOND) is None
    assert farm.wait() == SECOND


def test_the_result_shows_the_fingerprint_of_the_weights_on_the_disk(farm):
    for step in (SECOND, MUX):
        run_step(farm.old, "a", step)
    folder = TINY_PRESET.folder(farm.old.settings.weights_folder)
    shown = farm.job.status.result.params["weights"]
    assert shown == checkpoint_fingerprint(folder, UNREMEMBERED)


# 8 bits that are left to the worker


@pytest.fixture
def fast(roots: tuple[Path, Path], tmp_path: Path) -> Made:
    job = open_harness(tmp_path, EXAMPLES / "portrait.png", EXAMPLES / "speech.wav")
    job.enter(model=TINY_PRESET.name, **SMALL, quality="fast")
    update = {"presets": (TINY_PRESET.name,), "weights": roots[0]}
    ctx = Context(job.ctx.settings.model_copy(update=update), job.ctx.store, job.ctx.registry)
    for step in steps_of_job(2)[:2]:
        run_step(ctx, "a", step)

    def make(*schemes: str | None) -> list[ChunkOutput]:
        outputs = []
        for step, scheme in zip((FIRST, SECOND), schemes, strict=True):
            with patch("farm.model.quantise.quick_scheme", lambda _, quick=scheme: quick):
                run_step(ctx, "a", step)
            outputs.append(job.committed(step).output_as(ChunkOutput))
        return outputs

    return make


def test_a_fast_video_is_made_in_the_models_own_dtype_where_8_bits_are_not_quicker(fast):
    first, second = fast(None, None)
    assert (first.used.quant, second.weights) == (None, first.weights)
    assert "+" not in first.weights


@pytest.mark.parametrize("later", ["int8", None])
def test_a_fast_video_that_was_begun_in_8_bits_is_finished_in_them_by_any_worker(fast, later):
    first, second = fast("int8", later)
    assert (first.used.quant, second.weights) == ("int8", first.weights)
    assert first.weights.endswith("+int8")


def test_a_fast_video_that_was_begun_without_8_bits_stays_so(fast):
    first, second = fast(None, "int8")
    assert second.weights == first.weights


def test_a_streamed_model_is_not_switched_to_8_bits(fast, monkeypatch):
    monkeypatch.setattr("farm.steps.sampling._resident_parameters", lambda *_: 0)
    first, _ = fast("int8", "int8")
    assert first.used.quant is None
