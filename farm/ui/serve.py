"""The page's server: on loopback for whoever sits at this machine, elsewhere only behind a password."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from farm.client import Farm
from farm.errors import InvalidInput


@contextmanager
def open_page(farm: Farm, *, host: str, port: int, auth: str | None) -> Iterator[str]:
    """Serves the page and yields its address; InvalidInput for an address that others reach without a password."""
    login = _login(host, auth)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # looked at when it is imported
    import gradio as gr

    from farm.ui.page import Page

    with tempfile.TemporaryDirectory(prefix="farm-ui-") as folder:
        page = Page(farm, Path(folder))
        _, address, _ = page.blocks.launch(
            server_name=host,
            server_port=port or None,
            auth=login,
            allowed_paths=[folder],
            max_file_size=farm.place.settings.max_visual_bytes,
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            inbrowser=False,
        )
        try:
            yield address
        finally:
            page.blocks.close()


def _login(host: str, auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        if host != "localhost" and not _is_loopback(host):
            raise InvalidInput(f"--host: got {host!r}; others reach it, so set FARM_UI_AUTH=user:password")
        return None
    user, colon, password = auth.partition(":")
    if not (user and colon and password):
        raise InvalidInput("FARM_UI_AUTH: got something else; allowed: user:password")
    return user, password


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
