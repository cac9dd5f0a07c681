"""The alerts, result by promtool: each fires at its fault, none on a healthy farm."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.support.programs import installed_program
from tests.support.queries import alerts

RULE_TESTS = Path(__file__).parents[2] / "alerts.yaml"


def test_alerts_fire_at_their_faults():
    command = [installed_program("promtool"), "test", "rules", str(RULE_TESTS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested_with_and_without_its_fault():
    healthy, *faults = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    names = {alert["alert"] for alert in alerts()}
    assert {
        each["alertname"] for each in healthy["alert_rule_test"] if "exp_alerts" not in each
    } == names
    fired = [
        each for fault in faults for each in fault["alert_rule_test"] if each.get("exp_alerts")
    ]
    assert {each["alertname"] for each in fired} == names
