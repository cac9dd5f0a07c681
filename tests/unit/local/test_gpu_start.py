"""What is missing for a gpu worker is said at its start."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.local.gpu_start import check_gpu_start, driver_fault
from farm.settings import Settings


def test_incomplete_weights_are_refused_by_name(tmp_path):
    (tmp_path / "infinitetalk-480" / "vae").mkdir(parents=True)
    settings = Settings(weights=tmp_path, presets="infinitetalk-480", device="cpu")
    with pytest.raises(PipelineLoadFailed, match=r"FARM_WEIGHTS: .* is incomplete: .* is missing"):
        check_gpu_start(settings)


def test_the_shipped_model_needs_no_weights(tmp_path):
    check_gpu_start(Settings(weights=tmp_path, presets="miniature", device="cpu"))


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="FARM_DEVICE: got 'cuda:7'"):
        check_gpu_start(Settings(weights=tmp_path, device="cuda:7"))


@pytest.mark.parametrize(("driver", "fault"), [((12, 9), "too old"), (None, "no NVIDIA driver")])
def test_a_driver_that_cannot_run_torch_is_named(driver, fault):
    assert fault in (driver_fault(driver, "13.0") or "")


@pytest.mark.parametrize("driver", [(13, 0), (13, 2), (14, 0)])
def test_a_newer_driver_runs_torch(driver):
    assert driver_fault(driver, "13.0") is None
