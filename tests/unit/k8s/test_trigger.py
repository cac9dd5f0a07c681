"""The autoscaler's query and its alert, by Prometheus itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import installed_program
from tests.unit.k8s.conftest import Render


def run_promtool(folder: Path, rule: dict[str, Any], test: dict[str, Any]) -> None:
    """Fails unless the rule gives what the test expects."""
    rules = {"groups": [{"name": "group", "rules": [rule]}]}
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (folder / "tests.yaml").write_text(yaml.safe_dump(tests))
    command = [installed_program("promtool"), "test", "rules", str(folder / "tests.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("overlay", ["cloud", "spot"])
@pytest.mark.parametrize(
    ("jobs", "work_s", "gpus"),
    [
        (0, 0, 0),
        (1, 30, 1),
        (3, 90, 1),  # not worth three
        (3, 1801, 3),
        (5, 100_000, 5),  # a video uses one GPU at a time
    ],
)
def test_as_many_gpus_are_wanted_as_can_be_used_and_are_worth_it(
    overlay: str, jobs: int, work_s: int, gpus: int, rendered: Render, tmp_path: Path
) -> None:
    series = [
        # an old and a new exporter, during an upgrade
        {"series": f'{name}{{instance="{instance}"}}', "values": f"{value}+0x5"}
        for name, value in (("farm_runnable_jobs", jobs), ("farm_estimated_gpu_seconds", work_s))
        for instance in "ab"
    ]
    wanted = [{"labels": "gpus", "value": gpus}]
    run_promtool(
        tmp_path,
        {"record": "gpus", "expr": query(rendered(overlay))},
        {
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [{"expr": "gpus", "eval_time": "2m", "exp_samples": wanted}],
        },
    )


def test_while_the_broker_is_down_there_is_no_answer_and_an_alert(
    rendered: Render, tmp_path: Path
) -> None:
    (rule,) = [
        each["spec"]["groups"][0]["rules"][0]
        for each in rendered("spot")
        if each["kind"] == "PrometheusRule" and each["metadata"]["name"] == "autoscaler"
    ]
    down = {"series": "farm_broker_up", "values": "0+0x20"}
    alert = {
        "exp_labels": rule["labels"],
        "exp_annotations": rule["annotations"],
    }
    run_promtool(
        tmp_path,
        rule,
        {
            "interval": "1m",
            "input_series": [down],
            "promql_expr_test": [
                {"expr": query(rendered("spot")), "eval_time": "2m", "exp_samples": []}
            ],
            "alert_rule_test": [
                {"alertname": "FarmAutoscalerBlind", "eval_time": "4m", "exp_alerts": []},
                {"alertname": "FarmAutoscalerBlind", "eval_time": "6m", "exp_alerts": [alert]},
            ],
        },
    )


def query(manifests: list[dict[str, Any]]) -> str:
    """That of the GPU workers' autoscaler."""
    (scaler,) = [each for each in manifests if each["kind"] in ("ScaledObject", "ScaledJob")]
    return str(scaler["spec"]["triggers"][0]["metadata"]["query"])
