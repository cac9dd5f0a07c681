"""A screenshot of Flower during a batch, for docs/. Run as

python -m examples.make_flower flower.png

It needs Debian's Chromium.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from playwright.sync_api import sync_playwright

from farm import Farm
from farm.batch.rows import rows
from farm.local.supervisor import open_supervisor
from farm.net.address import ListenAddress
from farm.settings import Settings

BATCH = Path(__file__).parent / "batch.csv"
ADDRESS = ListenAddress("127.0.0.1", 5557)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
]
WIDTH = 1240
HEIGHT = 640


def save_screenshot(url: str, auth: str, target: Path) -> None:
    """Saves a screenshot of Flower's list of tasks, filtered to those of jobs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        user, _, password = auth.partition(":")
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            http_credentials={"username": user, "password": password},
        )
        page.goto(f"{url}/tasks")
        page.fill("input[type=search]", "args:job")
        page.wait_for_selector("td:has-text('chunk 2 of')")
        page.screenshot(path=target)
        browser.close()


def main(target: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        open_supervisor(Settings(home=Path(home)), flower=ADDRESS) as supervisor,
    ):
        farm = Farm(settings=supervisor.settings)
        jobs = farm.submit_batch(row.request() for row in rows(BATCH))
        while not jobs[-1].status().stage.startswith("chunk_1_"):
            time.sleep(0.1)
        save_screenshot(ADDRESS.url, supervisor.settings.flower_auth or "", target)
        farm.cancel(job.id for job in jobs)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    main(parser.parse_args().target)
