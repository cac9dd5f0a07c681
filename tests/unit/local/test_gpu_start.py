"""What is missing for a gpu worker is said at its start."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput, PipelineLoadFailed
from farm.local.gpu_start import check_gpu_start, driver_fault
from farm.presets import MINIATURE
from farm.settings import Settings
from farm.steps.gpus import gpus_fault


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


def test_cards_that_do_not_divide_the_heads_are_refused_with_both_numbers(tmp_path):
    settings = Settings(weights=tmp_path, device="cpu", gpus=3)
    message = "FARM_GPUS: got 3; miniature has 4 attention heads; allowed: 1, 2, 4"
    with pytest.raises(InvalidInput, match=message):
        check_gpu_start(settings)


def test_more_cards_than_the_machine_has_are_refused_with_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    message = "FARM_GPUS: got 4; torch finds 2 GPUs on this machine; allowed: 1 to 2"
    with pytest.raises(InvalidInput, match=message):
        check_gpu_start(Settings(weights=tmp_path, gpus=4))


def test_several_cards_and_a_device_that_names_one_are_refused(tmp_path):
    settings = Settings(weights=tmp_path, device="cuda:1", gpus=2)
    assert "FARM_GPUS: got 2 and FARM_DEVICE=cuda:1" in (gpus_fault(settings, MINIATURE) or "")


@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_several_processes_may_share_a_cpu(tmp_path, gpus):
    check_gpu_start(Settings(weights=tmp_path, device="cpu", gpus=gpus))


@pytest.mark.parametrize(("driver", "fault"), [((12, 9), "too old"), (None, "no NVIDIA driver")])
def test_a_driver_that_cannot_run_torch_is_named(driver, fault):
    assert fault in (driver_fault(driver, "13.0") or "")


@pytest.mark.parametrize("driver", [(13, 0), (13, 2), (14, 0)])
def test_a_newer_driver_runs_torch(driver):
    assert driver_fault(driver, "13.0") is None
