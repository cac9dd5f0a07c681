"""`farm settings`, and the file `farm.toml`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.cli import cli
from farm.client import Farm
from farm.client.runpod.farm import RunpodFarm
from farm.errors import InvalidInput
from farm.settings import Settings
from tests.support.cli import error_lines


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "farm.toml").write_text(
        """
        presets = ["miniature", "miniature-flashtalk"]
        lease_s = 40
        grace_s = 5
        remote_control = true
        s3_secret_key = "hush"
        """
    )
    return tmp_path


def test_variables_go_before_the_file_and_it_before_the_defaults(home):
    environ = {"FARM_HOME": str(home), "FARM_LEASE_S": "50", "S3_SECRET_KEY": "ours"}
    settings = Settings.load(environ)
    assert (settings.lease_s, settings.grace_s, settings.remote_control) == (50, 5, True)
    assert settings.presets == ("miniature", "miniature-flashtalk")
    assert settings.s3_secret_key == "ours"
    assert Settings.load({"FARM_HOME": str(home / "another")}) == Settings(home=home / "another")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("lease_s = -1", "farm.toml: lease_s: got -1; "),
        ("leases_s = 1", "farm.toml: leases_s: there is no such field; did you mean lease_s?"),
        (
            'preset = "miniature"',
            "farm.toml: preset: there is no such field; did you mean presets?",
        ),
        ('presets = ["minature"]', "farm.toml: presets: got 'minature'; there is no such model; "),
        ("lease_s", "farm.toml: it cannot be read as TOML"),
        ('home = "/x"', "farm.toml: home: got the folder of the file; allowed: FARM_HOME"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(tmp_path, text, error):
    (tmp_path / "farm.toml").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        Settings.load({"FARM_HOME": str(tmp_path)})
    assert caught.value.message.startswith(f"{tmp_path}/{error}")


def test_text_without_quotes_is_told_that_it_needs_them(tmp_path):
    (tmp_path / "farm.toml").write_text("presets = miniature")
    with pytest.raises(InvalidInput, match=r"\(Invalid value .*line 1.*\); .*text needs quotes$"):
        Settings.load({"FARM_HOME": str(tmp_path)})


def test_mistakes_of_file_and_variables_are_each_named_by_their_place(home):
    environ = {"FARM_HOME": str(home), "FARM_LEASE_S": "x", "FARM_BROKER_URL": None}
    (home / "farm.toml").write_text("grace_s = -1")
    result = CliRunner().invoke(cli, ["settings"], env=environ)
    assert {line.split(": ")[1] for line in error_lines(result)} == {
        *("FARM_LEASE_S", f"{home}/farm.toml")
    }


def test_an_endpoint_may_be_named_in_the_file(home, monkeypatch):
    (home / "farm.toml").write_text('broker_url = "runpod://abc"\nrunpod_api_key = "k"')
    monkeypatch.setenv("FARM_HOME", str(home))
    assert isinstance(Farm(), RunpodFarm)


def test_settings_are_shown_with_where_they_are_from_but_no_secrets(home):
    environ = {"FARM_HOME": str(home), "FARM_LEASE_S": "50", "FARM_BROKER_URL": "redis://:pw@h/0"}
    lines = CliRunner().invoke(cli, ["settings"], env=environ).stdout
    rows = {
        line.split()[0]: line.split(maxsplit=1)[1] for line in lines.splitlines() if "FARM" in line
    }
    assert set(rows) == {f"FARM_{name.upper()}" for name in Settings.model_fields}
    assert rows["FARM_LEASE_S"].split() == ["50.0", "FARM_LEASE_S"]
    assert rows["FARM_GRACE_S"].split() == ["5.0", f"{home}/farm.toml:", "grace_s"]
    assert rows["FARM_NAME"].split() == ["farm", "default"]
    assert "hush" not in lines
    assert "pw" not in lines
    printed = CliRunner().invoke(cli, ["settings", "--given", "--json"], env=environ).stdout
    given = {each["setting"]: each for each in map(json.loads, printed.splitlines())}
    assert given["FARM_BROKER_URL"]["value"] == "(not shown)"
    assert "FARM_NAME" not in given
