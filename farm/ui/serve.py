"""The server of the page: without a password on loopback only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farm.client import Farm
from farm.net.address import ListenAddress, check_page


@contextmanager
def open_page(farm: Farm, address: ListenAddress) -> Iterator[None]:
    """Serves the page while the block runs.

    Raises InvalidInput for an address beyond loopback if FARM_UI_AUTH is not set.
    """
    settings = farm.context.settings
    check_page(address, settings.ui_auth, field="ui", package="gradio", extra="ui")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it while it is imported.
    import gradio as gr

    from farm.ui.page import Page

    with tempfile.TemporaryDirectory(prefix="farm-ui-") as folder:
        page = Page(farm, Path(folder))
        page.blocks.launch(
            server_name=address.bracketed,
            server_port=address.port,
            auth=_credentials(settings.ui_auth),
            allowed_paths=[folder],
            max_file_size=settings.max_visual_bytes,
            # System fonts, so that no font is loaded from another server.
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            inbrowser=False,
        )
        try:
            yield
        finally:
            page.blocks.close(verbose=False)


def _credentials(auth: str | None) -> tuple[str, str] | None:
    """The user and the password in USER:PASSWORD."""
    if auth is None:
        return None
    user, _, password = auth.partition(":")
    return user, password
