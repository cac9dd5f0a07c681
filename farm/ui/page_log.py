"""The operator's log of what the page tells visitors in other words."""

from __future__ import annotations

import logging
import time

from farm.errors import FarmError
from farm.logs import log
from farm.ui.problems import is_of_the_farm

PAUSE_S = 60
"""Before the same error is logged again: every visitor's page looks once a second."""


class PageLog:
    def __init__(self) -> None:
        self._noted: dict[str, float] = {}

    def note(self, error: FarmError) -> None:
        """Logs the cause of an error, unless it is the visitor's mistake or was logged just now."""
        now = time.monotonic()
        self._noted = {text: at for text, at in self._noted.items() if now - at < PAUSE_S}
        if is_of_the_farm(error.code) and error.message not in self._noted:
            self._noted[error.message] = now
            log("page_error", level=logging.ERROR, code=error.code, reason=error.message)
