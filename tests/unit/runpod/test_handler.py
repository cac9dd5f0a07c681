"""Where the handler of serverless workers starts, and what it says elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = "import runpy; runpy.run_module('farm.runpod.handler', run_name='__main__')"
WITHOUT_RUNPOD = f"import sys; sys.modules['runpod'] = None; {RUN}"


def start(
    folder: Path, code: str, *args: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The handler, in an empty folder, until it ends."""
    environ = {name: os.environ[name] for name in os.environ if not name.startswith("RUNPOD_")}
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=folder,
        env={**environ, "FARM_HOME": str(folder / "home"), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_the_package_one_sentence_says_how_it_is_installed(tmp_path):
    ended = start(tmp_path, WITHOUT_RUNPOD, RUNPOD_WEBHOOK_GET_JOB="http://127.0.0.1:1")
    sentence = "runpod is not installed; pip install '.[worker,runpod]' in a checkout of the farm\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", sentence)


def test_elsewhere_than_on_a_worker_one_sentence_says_where_it_runs(tmp_path):
    ended = start(tmp_path, RUN)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith("the handler runs on Runpod's workers")
    assert "--test_input" in ended.stderr


def test_the_local_test_of_the_sdk_still_runs(tmp_path):
    args = ("--test_input", '{"id": "a job without input"}')
    ended = start(tmp_path, RUN, *args, FARM_PRESETS="infinitetalk-480")
    assert "Job has no input parameter" in ended.stdout + ended.stderr
