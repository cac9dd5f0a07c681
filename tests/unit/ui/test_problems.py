"""What visitors are told of errors, and what is left to the operator's log."""

from __future__ import annotations

import json
import logging

import pytest

from farm.errors import FarmError, FarmUnreachable, InvalidInput, QuotaExceeded
from farm.job import JobRequest
from farm.logs import JsonLines
from farm.ui.page_log import PageLog
from farm.ui.problems import VISITORS, mistakes, told
from farm.ui.words import FAILURES

UNREACHABLE = FarmUnreachable("no broker answers at 127.0.0.1:40151 (Error 111 ...)")


def test_mistakes_are_sentences_beside_their_inputs():
    with pytest.raises(InvalidInput) as refused:
        JobRequest.parse(
            {
                "cond_video": "face.png",
                "cond_audio": {"person1": "one.wav"},
                "prompt": "a" * 6000,
                "frame_num": 22,
                "sample_steps": 0,
            }
        )
    found = mistakes(refused.value)
    assert found["advanced"].startswith("Frames in a chunk: Got 22;")
    assert "\nDenoise steps: Got 0;" in found["advanced"]
    assert "null" not in found["advanced"]
    assert set(found) == {"advanced", "prompt"}


def test_what_is_no_mistake_in_an_input_is_shown_at_the_button():
    assert mistakes(UNREACHABLE) == {"notice": FAILURES["E_UNREACHABLE"]}
    assert mistakes(InvalidInput("webhook: no")) == {"notice": "webhook: no"}


def test_every_code_has_words_for_visitors():
    codes = {kind.code for kind in (FarmError, *FarmError.__subclasses__())}
    assert codes == {*FAILURES, *VISITORS}


def test_an_error_of_a_newer_farm_is_one_that_went_wrong():
    assert told("E_FUTURE", "Traceback: ...") == FAILURES["E_INTERNAL"]


def test_away_from_the_inputs_a_mistake_has_the_name_of_its_input():
    message = "cond_video: decoding failed\nframe_num: got 22 (FARM_X, 3)\nother: no"
    assert told("E_INPUT_VALIDATION", message).splitlines() == [
        "Face: Decoding failed.",
        "Frames in a chunk: Got 22.",
        "Other: no.",
    ]


def test_a_quota_is_told_without_names_of_settings_and_callers():
    full = QuotaExceeded(
        "caller ann: 3 jobs have not ended; allowed: 3 (FARM_MAX_LIVE_JOBS); try again later"
    )
    assert mistakes(full) == {"notice": "3 jobs have not ended; allowed: 3; try again later."}


def test_the_cause_is_logged_once_however_many_visitors_look(caplog):
    page_log = PageLog()
    for error in (UNREACHABLE, UNREACHABLE, InvalidInput("prompt: too long")):
        page_log.note(error)
    (record,) = caplog.records
    line = json.loads(JsonLines().format(record))
    assert (record.levelno, line["event"]) == (logging.ERROR, "page_error")
    assert line["details"] == {"code": "E_UNREACHABLE", "reason": UNREACHABLE.message}
