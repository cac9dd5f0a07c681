"""The original's numbers, reached by the code that the farm runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.reference import __main__ as runner
from tests.reference.cases import run

CASES = sorted((Path(runner.__file__).parent / "cases").iterdir())


def copied(case: str, folder: Path, **changes: object) -> Path:
    """The case under its own name (inputs are drawn from it), some of its settings changed."""
    source = next(each for each in CASES if each.name == case)
    target = Path(shutil.copytree(source, folder / case))
    settings = json.loads((target / "case.json").read_text()) | changes
    (target / "case.json").write_text(json.dumps(settings))
    return target


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_public_case_is_reproduced(folder: Path) -> None:
    assert [each for each in run(folder) if not each.passed] == []


@pytest.mark.parametrize(
    "changes",
    [{"timestep": 637.5}, {"context_tokens": 12}, {"audio_scale": 0.303}],
    ids=lambda change: next(iter(change)),
)
def test_the_tolerance_notices_a_small_change(changes: dict[str, object], tmp_path: Path) -> None:
    (output,) = run(copied("transformer_one_speaker", tmp_path, **changes))
    assert not output.passed


def test_a_numerical_fault_exits_with_one_and_says_where(tmp_path: Path) -> None:
    folder = copied("wav2vec_short", tmp_path)
    expected = load_file(folder / "expected.safetensors")
    save_file(
        {"embedding": expected["embedding"] * 1.0001},
        folder / "expected.safetensors",
    )
    done = subprocess.run(  # the command line itself is what is tested
        [sys.executable, "-m", "tests.reference", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith(
        "FAIL  wav2vec_short: largest relative error 1.0e-04 (embedding; tolerance 1e-05)"
    )


def test_an_unsupported_case_fails_with_the_reason(
    tmp_path: Path,
) -> None:
    passed, line = runner.verdict(copied("clip_image_one_speaker_two_passes", tmp_path, humans=3))
    assert not passed
    assert "one or two speakers, the case has 3" in line


def test_another_skipped_step_is_noticed(tmp_path: Path) -> None:
    passes = json.loads((CASES[0].parent / "clip_teacache" / "case.json").read_text())[
        "computed_passes"
    ]
    compared = run(copied("clip_teacache", tmp_path, computed_passes=[*passes[:-3], 1, 1, 1]))
    assert [each.tensor for each in compared if not each.passed] == ["computed_passes"]


def test_a_file_beside_the_cases_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").touch()
    assert runner.main([str(tmp_path / "README.md")]) == 0
    assert capsys.readouterr().out == "skip  README.md: not a case's folder\n"
    assert runner.main([str(tmp_path / "none")]) == 1
