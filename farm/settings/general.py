"""The farm itself, and the callers who submit its jobs."""

from __future__ import annotations

import os
import stat
import sys
from errno import EPERM
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from farm.caller import CallerName
from farm.settings.group import COMMA_SEPARATED, EMPTY_IS_NONE, SettingsGroup


class General(SettingsGroup):
    title: ClassVar = "General"

    name: str = Field(
        "farm",
        pattern="^[a-z0-9-]{1,63}$",
        description=(
            "name of the farm, in front of its keys in Redis, so that several farms can share one: "
            "a-z, 0-9 and -"
        ),
    )
    home: Path = Field(
        Path("~/.infinitetalk-farm"),
        description="folder of the local broker, store, weights and logs",
    )

    @property
    def key_prefix(self) -> str:
        """What all keys and channels of this farm in Redis begin with."""
        return f"{self.name}:"

    @property
    def folder(self) -> Path:
        """`home` with ~ expanded."""
        return self.home.expanduser().resolve()

    def make_folder(self) -> Path:
        """`folder`, created if it is missing, which only its owner can enter from now on.

        Prompts, uploads and logs lie in it. OSError if it cannot be created, or is shared by all
        users like /tmp; another user's folder is left as it is.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform == "win32":  # its folders have no such modes
            return self.folder
        found = self.folder.stat()
        if found.st_mode & stat.S_ISVTX:
            raise PermissionError(EPERM, "all users of the machine share it")
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            self.folder.chmod(0o700)
        return self.folder

    @property
    def digests_folder(self) -> Path:
        """Where the digests of weights are remembered."""
        return self.folder / "digests"

    @property
    def attention_file(self) -> Path:
        """Where the fastest attention kernel of each device is remembered."""
        return self.folder / "attention.json"

    @property
    def broker_url_file(self) -> Path:
        """The file to which `farm up` writes the URL of its broker."""
        return self.folder / "run" / "broker"

    @property
    def lock_file(self) -> Path:
        """The file that `farm up` has locked as long as it runs."""
        return self.folder / "run" / "lock"


class Callers(SettingsGroup):
    title: ClassVar = "Callers"

    caller: CallerName | None = Field(
        None,
        description=(
            "whose jobs this process submits, from Python or the command line; unset = the name "
            "of its user"
        ),
    )
    high_priority_callers: Annotated[tuple[CallerName, ...] | None, COMMA_SEPARATED] = Field(
        None,
        description=(
            "callers whose jobs may have priority high, comma-separated; unset = all, empty = none"
        ),
    )
    max_live_jobs: Annotated[int | None, EMPTY_IS_NONE] = Field(
        10_000, ge=0, description="jobs of one caller that have not ended; empty = any number"
    )
    max_gpu_s_per_day: float | None = Field(
        None,
        ge=0,
        description=(
            "GPU seconds of one caller on one day (UTC): used, and estimated for jobs that have "
            "not ended; unset = any number"
        ),
    )
    max_stored_bytes: int | None = Field(
        None,
        ge=0,
        description="bytes of one caller's uploads and results in the store; unset = any number",
    )
