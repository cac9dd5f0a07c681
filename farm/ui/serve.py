"""The server of the page: without a password on loopback only."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.caller import check_caller
from farm.client import Farm
from farm.net.address import ListenAddress, check_page
from farm.settings import Settings

if TYPE_CHECKING:
    from farm.ui.gate import GatedApp
    from farm.ui.page import Page


UNUSED: dict[str, Any] = {
    "share": False,
    "ssr_mode": False,
    "inbrowser": False,
    "enable_monitoring": False,
    "mcp_server": False,
    "run_history": False,
    "footer_links": [],
    "num_workers": 0,  # they would serve files at ports of their own
}
"""What Gradio has to offer besides the page."""


def check_address(address: ListenAddress, settings: Settings) -> None:
    """Raises InvalidInput for an address beyond loopback if FARM_UI_AUTH is not set."""
    check_page(address, settings.ui_auth, field="ui", package="gradio", extra="ui")


@contextmanager
def open_page(farm: Farm, address: ListenAddress) -> Iterator[None]:
    """Serves the page while the block runs; InvalidInput as `check_address` raises it."""
    settings = farm.context.settings
    check_address(address, settings)
    with tempfile.TemporaryDirectory(prefix="farm-ui-") as name:
        folder = Path(name)
        # What Gradio and its server read from the environment only, partly while imported.
        variables = {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": str(_uploads(folder)),
            "FORWARDED_ALLOW_IPS": ",".join(map(str, settings.ui_trusted_proxies)),
        }
        with _environment(variables):
            page = _page(farm, folder)
            _launch(page, settings, address, folder)
            try:
                yield
            finally:
                page.blocks.close(verbose=False)


def _page(farm: Farm, folder: Path) -> Page:
    """The page with its files in `folder`, where a request may name uploads only."""
    from farm.ui.examples import MEDIA
    from farm.ui.page import Page

    videos, media = _served(folder)
    uploads = _uploads(folder)
    videos.mkdir()
    uploads.mkdir()
    shutil.copytree(MEDIA, media)
    farm = copy(farm)
    farm.local_files = uploads
    return Page(farm, videos=videos, uploads=uploads, media=media)


def _launch(page: Page, settings: Settings, address: ListenAddress, folder: Path) -> None:
    """Starts the server of a page whose files are in `folder`."""
    from farm.ui.english import english
    from farm.ui.parts import read_part
    from farm.ui.theme import theme

    page.blocks.launch(
        _app=_gated_app(settings, address, folder),
        server_name=address.bracketed,
        server_port=address.port,
        auth=_credentials(settings.ui_auth),
        allowed_paths=[str(each) for each in _served(folder)],
        max_file_size=settings.max_visual_bytes,
        theme=theme(),
        css=read_part("page.css"),
        i18n=english(),
        js=read_part("page.js"),
        prevent_thread_lock=True,
        quiet=True,
        **UNUSED,
    )


def _gated_app(settings: Settings, address: ListenAddress, folder: Path) -> GatedApp:
    from farm.ui.gate import GatedApp
    from farm.ui.hosts import Hosts
    from farm.ui.uploads import Uploads

    return GatedApp(
        hosts=Hosts(address, settings.ui_hosts),
        folder=folder,
        uploads=Uploads(_uploads(folder), max_bytes=settings.ui_upload_bytes),
        max_file_bytes=settings.max_visual_bytes,
    )


def _served(folder: Path) -> tuple[Path, Path]:
    """The folders of made videos and of examples, whose files the browser may fetch."""
    return folder / "videos", folder / "media"


def _uploads(folder: Path) -> Path:
    return folder / "uploads"


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _credentials(auth: str | None) -> list[tuple[str, str]] | None:
    """Users and passwords in USER:PASSWORD,...; InvalidInput for a user who cannot be a caller."""
    if auth is None:
        return None
    logins = [login.partition(":") for login in auth.split(",")]
    return [(check_caller(user, field="FARM_UI_AUTH"), password) for user, _, password in logins]
