"""The server of the page: without a password on loopback only."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from farm.caller import check_caller
from farm.client import Farm
from farm.net.address import ListenAddress, check_page
from farm.settings import Settings

if TYPE_CHECKING:
    from farm.ui.gate import GatedApp
    from farm.ui.page import Page


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
            page = _launch(farm, address, folder)
            try:
                yield
            finally:
                page.blocks.close(verbose=False)


def _launch(farm: Farm, address: ListenAddress, folder: Path) -> Page:
    """Starts the server of a page whose files are in `folder`."""
    from farm.ui.english import english
    from farm.ui.examples import MEDIA
    from farm.ui.page import Page
    from farm.ui.parts import read_part
    from farm.ui.theme import theme

    settings = farm.context.settings
    videos = folder / "videos"
    for each in (videos, _uploads(folder)):
        each.mkdir()
    media = Path(shutil.copytree(MEDIA, folder / "media"))
    farm = copy(farm)
    farm.local_files = _uploads(folder)
    page = Page(farm, videos=videos, uploads=_uploads(folder), media=media)
    page.blocks.launch(
        _app=_gated_app(settings, address, folder),
        server_name=address.bracketed,
        server_port=address.port,
        auth=_credentials(settings.ui_auth),
        allowed_paths=[str(videos), str(media)],
        max_file_size=settings.max_visual_bytes,
        theme=theme(),
        css=read_part("page.css"),
        i18n=english(),
        js=read_part("page.js"),
        footer_links=[],
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        inbrowser=False,
        enable_monitoring=False,
        mcp_server=False,
        num_workers=0,  # they would serve files at ports of their own
        run_history=False,
    )
    return page


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
