"""`farm simulate` prints rows, or JSON, or draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.cli import cli
from farm.estimate import Pace
from farm.registry.steps import EstimateUpdate
from tests.support.jobs import FIELDS
from tests.support.steps import acquire, commit


def simulate(*options: str) -> list[str]:
    result = CliRunner().invoke(cli, ["simulate", *options])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_there_is_a_row_for_each_combination() -> None:
    header, *rows = simulate("--videos", "5,10", "--steps", "8,4", "--hours", "1")
    assert header.split()[:4] == ["videos/h", "steps", "gpu", "GPUs"]
    assert [row.split()[:2] for row in rows] == [["5", "8"], ["10", "8"], ["5", "4"], ["10", "4"]]


def test_rows_are_json_on_request() -> None:
    rows = [json.loads(line) for line in simulate("--json", "--hours", "1", "--steps", "4")]
    assert len(rows) == 1
    assert rows[0]["gpus"] >= 1
    assert rows[0]["wait_p95_s"] <= 610


def test_a_spot_farm_that_scales_loses_chunks_and_is_drawn(tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    (row,) = simulate(
        *("--max-gpus", "20", "--losses", "1", "--hours", "2", "--json"), "-o", str(plot)
    )
    assert json.loads(row)["lost_chunks"] > 0
    assert plot.read_text().startswith("<svg")


def test_what_is_not_known_is_refused_by_name() -> None:
    for options, message in (
        (
            ["--gpu", "a100"],
            "gpu: got 'a100'; allowed: h100, h200, farm, or any with --speed and --price",
        ),
        (["--videos", "0"], "has a number that is not above 0"),
        (["--videos", "many"], "is not a list of numbers such as 10,100"),
        (["--budget", "3"], "budget: got 3 an hour, which pays for 0 GPUs at 4.18 each"),
        (["--min-gpus", "5", "--max-gpus", "3"], "min-gpus: got 5; allowed: 0 to max-gpus, 3"),
        (["--losses", "1"], "losses: allowed: only with max-gpus or budget"),
        (["--pattern", "daily"], "'daily' is not one of"),
    ):
        result = CliRunner().invoke(cli, ["simulate", *options])
        assert result.exit_code != 0
        assert message in result.output, result.output


def test_the_gpus_of_the_farm_itself_are_those_of_its_last_chunk(run, farm) -> None:
    ask = ("simulate", "--json", "--gpu", "farm", "--model", "miniature")
    assert "made no chunk with miniature yet" in run(*ask).stderr
    job = farm.submit(FIELDS)
    lease = acquire(farm.context.registry, job_id=job.id)
    commit(
        farm.context.registry,
        lease,
        estimate=EstimateUpdate(pace=Pace(0.1, cards=2), model="miniature"),
    )
    assert "without a price" in run(*ask).stderr
    ours = json.loads(run(*ask, FARM_GPU_PRICE_PER_H="3.6").stdout)
    (reference,) = simulate("--json", "--gpu", "h200", "--model", "miniature")
    assert ours["chunk_s"] == pytest.approx(0.1 * json.loads(reference)["chunk_s"])
    assert ours["cost_per_minute"] == pytest.approx(ours["gpu_hours"] * 7.2 / (ours["videos"] / 2))
