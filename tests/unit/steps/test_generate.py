"""Jobs that ask for different variants of the model, one after the other on a warm worker."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file

from farm import Farm
from farm.errors import InvalidInput, PipelineLoadFailed
from farm.presets import PRESETS
from farm.settings import Settings
from farm.steps.generate import unload_pipeline, warm_pipeline
from tests.support.tiny_model import TINY_PRESET, use_tiny_preset

EXAMPLES = Path(__file__).parents[3] / "examples"

SMALL = {
    "prompt": "a friendly person talks",
    "cond_video": str(EXAMPLES / "portrait.png"),
    "cond_audio": {"person1": str(EXAMPLES / "speech.wav")},
    "frame_num": 5,
    "motion_frame": 1,
    "sample_steps": 1,
    "sample_text_guide_scale": 1.0,
    "sample_audio_guide_scale": 1.0,
}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    home = tmp_path_factory.mktemp("home")
    save_file({"blocks.0.norm3.diff": torch.ones(128)}, home / "fast.safetensors")
    save_file({"blocks.9.norm3.diff": torch.ones(128)}, home / "wrong.safetensors")
    variables = {
        "FARM_HOME": str(home),
        "FARM_LORAS": f"fast={home}/fast.safetensors,wrong={home}/wrong.safetensors",
        "FARM_OFFLOAD": "allowed",
    }
    with use_tiny_preset(home / "weights") as model:
        yield Farm("inline://", settings=Settings.load(variables).model_copy(update=model))
    unload_pipeline()


def generate(farm: Farm, **fields: Any) -> tuple[bytes, dict[str, Any]]:
    """The first segment of a job, and the parameters in its result."""
    job = farm.submit({**SMALL, **fields})
    params = job.result(timeout_s=120).params
    committed = farm.context.registry.steps.committed(job.id, "generate-0000")
    return farm.context.store.get(committed.output.segment_key), params


def test_the_variant_of_a_job_does_not_outlive_it(farm: Farm) -> None:
    # Given a plain job, one with an adapter, one in eight bits, and one that streams its blocks
    plain, _ = generate(farm)
    adapted, adapted_params = generate(farm, lora=[{"name": "fast", "scale": 0.5}])
    rounded, rounded_params = generate(farm, quant="int8")
    streamed, streamed_params = generate(farm, offload_model=True)
    # Then each is reported as it was made, and the next plain one equals the first
    assert adapted_params["lora"] == [{"name": "fast", "scale": 0.5}]
    assert (rounded_params["quant"], streamed_params["offload_model"]) == ("int8", True)
    assert len({plain, adapted, rounded}) == 3
    assert streamed == plain
    assert generate(farm)[0] == plain


def test_a_worker_without_a_gpu_says_so_in_later_estimates(farm: Farm) -> None:
    generate(farm)
    assert "seconds on the CPU at this farm's pace" in str(farm.estimate(SMALL))


def test_weights_in_eight_bits_make_the_same_video_if_they_are_streamed(farm: Farm) -> None:
    resident, _ = generate(farm, quant="int8")
    streamed, params = generate(farm, quant="int8", offload_model=True)
    assert (params["quant"], params["offload_model"]) == ("int8", True)
    assert streamed == resident


def test_an_unknown_adapter_ends_its_job_with_the_known_names(farm: Farm) -> None:
    job = farm.submit({**SMALL, "lora": [{"name": "slow"}]})
    message = r"lora\.0\.name: got 'slow'; adapters of this farm: fast, wrong"
    with pytest.raises(InvalidInput, match=message):
        job.result(timeout_s=120)


def test_an_adapter_of_another_model_ends_its_job_and_not_the_worker(farm: Farm) -> None:
    job = farm.submit({**SMALL, "lora": [{"name": "wrong"}]})
    message = r"wrong\.safetensors: blocks\.9\.norm3\.diff matches no parameter"
    with pytest.raises(PipelineLoadFailed, match=message):
        job.result(timeout_s=120)
    assert generate(farm)[0]


def test_teacache_and_apg_change_the_video(farm: Farm) -> None:
    fields = {"sample_steps": 8, "sample_audio_guide_scale": 4.0}
    plain, _ = generate(farm, **fields)
    cached, _ = generate(farm, **fields, use_teacache=True, teacache_thresh=1.0)
    projected, _ = generate(farm, **fields, use_apg=True)
    assert len({plain, cached, projected}) == 3


def test_a_model_leaves_the_memory_before_another_one_is_loaded(farm: Farm) -> None:
    second = replace(TINY_PRESET, name="second", weights=TINY_PRESET.name)
    settings = farm.context.settings
    first = weakref.ref(warm_pipeline(settings, TINY_PRESET.name))
    assert first() is warm_pipeline(settings, TINY_PRESET.name), "it stays until then"

    def load(*_: Any, **__: Any) -> None:
        assert first() is None
        raise PipelineLoadFailed("the second one")

    with (
        patch.dict(PRESETS, {second.name: second}),
        patch("farm.model.pipeline.load_pipeline", load),
        pytest.raises(PipelineLoadFailed, match="the second one"),
    ):
        warm_pipeline(settings, second.name)
