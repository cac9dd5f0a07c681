"""Jobs that ask for other models, one after the other on the same warm worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from farm import Farm
from farm.errors import InvalidInput, PipelineLoadFailed
from farm.settings import Settings
from farm.steps.generate import warm_pipeline
from tests.support.tiny_model import chosen

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
    loras = f"fast={home}/fast.safetensors,wrong={home}/wrong.safetensors"
    variables = {"FARM_HOME": str(home), "FARM_LORAS": loras, "FARM_OFFLOAD": "allowed"}
    with chosen(home / "weights") as model:
        yield Farm("inline://", settings=Settings.load(variables).model_copy(update=model))
    warm_pipeline.cache_clear()


def video(farm: Farm, **fields: Any) -> tuple[bytes, dict[str, Any]]:
    """The job's first segment, and the parameters that its result tells."""
    job = farm.submit({**SMALL, **fields})
    params = job.result(timeout_s=120).params
    key = farm.context.registry.steps.committed(job.id, "generate-0000")["segment"]
    return farm.context.store.get(key), params


def test_a_jobs_adapter_is_gone_with_the_job(farm: Farm) -> None:
    # given a plain job, then one with an adapter, one in eight bits, and one that streams its blocks
    plain, _ = video(farm)
    adapted, told = video(farm, lora=[{"name": "fast", "scale": 0.5}])
    rounded, told_rounded = video(farm, quant="int8")
    streamed, told_streamed = video(farm, offload_model=True)
    # then each is told as it was made, and the next plain one is what the first was
    assert told["lora"] == [{"name": "fast", "scale": 0.5}]
    assert (told_rounded["quant"], told_streamed["offload_model"]) == ("int8", True)
    assert len({plain, adapted, rounded}) == 3
    assert streamed == plain
    assert video(farm)[0] == plain


def test_weights_that_are_rounded_and_streamed_are_refused(farm: Farm) -> None:
    with pytest.raises(InvalidInput, match="quant or offload_model, not both"):
        farm.submit({**SMALL, "quant": "int8", "offload_model": True}).result(timeout_s=120)


def test_an_unknown_adapter_ends_its_job_with_the_known_names(farm: Farm) -> None:
    with pytest.raises(InvalidInput, match=r"lora\.0\.name: got 'slow'; adapters of this farm: fast, wrong"):
        farm.submit({**SMALL, "lora": [{"name": "slow"}]}).result(timeout_s=120)


def test_an_adapter_of_another_model_ends_its_job_and_not_the_worker(farm: Farm) -> None:
    with pytest.raises(PipelineLoadFailed, match=r"wrong\.safetensors: blocks\.9\.norm3\.diff belongs to nothing"):
        farm.submit({**SMALL, "lora": [{"name": "wrong"}]}).result(timeout_s=120)
    assert video(farm)[0]


def test_teacache_and_apg_change_the_video(farm: Farm) -> None:
    plain, _ = video(farm, sample_steps=8, sample_audio_guide_scale=4.0)
    cached, _ = video(farm, sample_steps=8, sample_audio_guide_scale=4.0, use_teacache=True, teacache_thresh=1.0)
    projected, _ = video(farm, sample_steps=8, sample_audio_guide_scale=4.0, use_apg=True)
    assert len({plain, cached, projected}) == 3
