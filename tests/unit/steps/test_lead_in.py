"""A model whose scenes have a lead-in: what it hears, and which rows belong to which frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from farm.engine.context import Context
from farm.media.audio import speech
from farm.model.audio import load_audio_encoder
from farm.plan import SAMPLES_PER_FRAME
from farm.presets import MINIATURE_FLASHTALK
from farm.registry import open_registry
from farm.registry.outputs import EmbedOutput
from farm.route import DOWNLOAD, EMBED
from farm.settings import Settings
from farm.steps.features import rows_of
from farm.store import keys, open_store
from tests.support.jobs import job_request
from tests.support.steps import run_step, step_context

LEAD_IN = 5


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Context:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, presets=MINIATURE_FLASHTALK.name)
    return Context(settings, open_store("memory://"), open_registry("memory://"))


@pytest.fixture(scope="module")
def embedded(ctx: Context, portrait: Path, voice: Path) -> EmbedOutput:
    """The output of `embed` for two chunks of a job."""
    for path in (portrait, voice):
        ctx.store.put(keys.upload(path), path)
    request = job_request(
        model=MINIATURE_FLASHTALK.name,
        cond_video=keys.SCHEME + keys.upload(portrait),
        cond_audio={"person1": keys.SCHEME + keys.upload(voice)},
        max_frame_num=40,
    )
    ctx.registry.entries.add("a", request)
    for step in (DOWNLOAD, EMBED):
        run_step(ctx, "a", step)
    output = ctx.registry.steps.committed("a", EMBED.id).output
    assert (output.frames, output.chunks) == (40, 2)
    return output


def test_silence_of_the_lead_in_is_heard_before_the_voice(ctx, embedded, voice, tmp_path):
    # Given what the encoder makes of the voice behind silence
    encoder = load_audio_encoder(MINIATURE_FLASHTALK.folder(tmp_path))
    silence = np.zeros(LEAD_IN * SAMPLES_PER_FRAME, np.float32)
    expected = encoder.embed(np.concatenate([silence, speech(voice)]))
    # Then these are the stored rows, and there are enough for the last chunk
    context = step_context(ctx, EMBED, scratch=tmp_path)
    stored = rows_of(context, embedded.embedding_prefixes[0], range(embedded.rows))
    torch.testing.assert_close(stored, expected, rtol=1e-4, atol=1e-4)
    assert embedded.rows >= 2 * 28 + LEAD_IN + 2


def test_a_voice_that_ends_in_a_chunk_is_followed_by_as_much_silence_as_it_hears(
    ctx, portrait, voice
):
    request = job_request(
        model=MINIATURE_FLASHTALK.name,
        cond_video=keys.SCHEME + keys.upload(portrait),
        cond_audio={"person1": keys.SCHEME + keys.upload(voice)},
    )
    ctx.registry.entries.add("b", request)
    for step in (DOWNLOAD, EMBED):
        run_step(ctx, "b", step)
    output = ctx.registry.steps.committed("b", EMBED.id).output
    assert output.rows == 28 * output.chunks + LEAD_IN + 2
    assert output.frames <= 28 * output.chunks
