"""The alerts fire in trouble and at no other time, as Prometheus itself judges them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.support.programs import program
from tests.support.queries import alerts

JUDGED = Path(__file__).parents[2] / "alerts.yaml"


def test_alerts_fire_in_the_troubles_that_they_are_for():
    command = [program("promtool"), "test", "rules", str(JUDGED)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_every_alert_has_a_trouble_and_stays_calm_without():
    calm, *troubles = yaml.safe_load(JUDGED.read_text())["tests"]
    names = {alert["alert"] for alert in alerts()}
    assert {each["alertname"] for each in calm["alert_rule_test"] if "exp_alerts" not in each} == names
    fired = [each for trouble in troubles for each in trouble["alert_rule_test"] if each.get("exp_alerts")]
    assert {each["alertname"] for each in fired} == names
