"""A picture of Flower while a batch is made, for docs/. Run as

python -m examples.make_flower flower.png

It takes Chromium, as Debian has it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from farm import Farm
from farm.batch.rows import rows
from farm.local.supervisor import open_supervisor
from farm.net.address import Address
from farm.settings import Settings

BATCH = Path(__file__).parent / "batch.csv"
WHERE = Address("127.0.0.1", 5557)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
WIDTH, HEIGHT = 1240, 640


def photograph(url: str, target: Path) -> None:
    """Flower's list of messages, those of jobs alone, the newest first."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{url}/tasks")
        page.fill("input[type=search]", "args:job")
        page.wait_for_selector("td:has-text('chunk 2 of')")
        page.screenshot(path=target)
        browser.close()


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as home, open_supervisor(Settings(home=Path(home)), flower=WHERE) as supervisor:
        farm = Farm(settings=supervisor.settings)
        jobs = list(farm.submit_batch(row.request() for row in rows(BATCH)))
        while not jobs[-1].status().stage.startswith("chunk_1_"):
            time.sleep(0.1)
        photograph(WHERE.url, target)
        farm.cancel(job.id for job in jobs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
