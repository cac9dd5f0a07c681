"""`farm bench` measures a machine without weights and prints tables, or JSON."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from farm.cli import cli
from farm.cli.bench import lines
from farm.model.bench import Bench, KernelTime, Option, PartTimes, PassTime, VideoCost


def test_the_tables_have_a_line_for_each_figure() -> None:
    option = Option("flash_4", "fp8", fold_audio=True)
    bench = Bench(
        device="a card",
        torch="2.11",
        model="infinitetalk-480",
        size="infinitetalk-480",
        height=640,
        width=640,
        frame_num=81,
        passes=[PassTime(option, first_s=4.5, pass_s=2.25, tflops=840.5, peak_gib=53.9)],
        faults=["plain, cudnn_fp8: it needs a newer card"],
        parts=PartTimes(1.5, 0.125, 1.0, 0.0625, 0.25, None, peak_gib=8.5),
        costs=[VideoCost(option, 4, 2, 22.5, 24.0, 8.25, 0.0125)],
        kernels=[KernelTime("gemm", 400, 1200.5)],
    )

    printed = [" ".join(line.split()) for line in lines(bench)]

    assert "fp8, flash_4, audio folded 4.500 2.250 840.50 53.9" in printed
    assert "does not work here: plain, cudnn_fp8: it needs a newer card" in printed
    assert "decoding 1.000" in printed
    assert "H.264 -" in printed
    assert "fp8, flash_4, audio folded 4 2 24.00 8.25 0.0125" in printed
    assert "1200.5 400 gemm" in printed


@pytest.mark.slow
def test_a_machine_without_weights_is_measured() -> None:
    answer = CliRunner().invoke(
        cli,
        ["bench", "--model", "miniature", "--random", "--calls", "1", "--json"],
        env={"FARM_GPU_PRICE_PER_H": "3.6", "FARM_DEVICE": "cpu"},
    )
    assert answer.exit_code == 0, answer.output
    measured = json.loads(answer.stdout)
    assert measured["width"] == measured["height"] == 128
    assert [each["option"]["fold_audio"] for each in measured["passes"]] == [False, True]
    assert measured["parts"]["h264_s"] > 0
    last = measured["costs"][-1]
    assert last["money_per_video_s"] == pytest.approx(last["gpu_s_per_video_s"] / 1000)


def test_a_size_that_the_model_does_not_make_is_refused() -> None:
    answer = CliRunner().invoke(
        cli, ["bench", "--model", "miniature", "--size", "huge"], env={"FARM_DEVICE": "cpu"}
    )
    assert answer.exit_code == 2
    assert "size: got 'huge'; the model miniature makes" in answer.output
