"""A cell of a notebook that follows a job."""

from __future__ import annotations

from typing import Any

from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from farm import Farm
from farm.local.supervisor import Supervisor

CELL = """
from farm import Farm
from farm.client.progress import follow

follow(Farm({url!r}).job({job_id!r})).state
"""


def test_a_notebook_shows_a_jobs_progress_as_a_bar(supervisor: Supervisor, farm: Farm, small: dict[str, Any]) -> None:
    job = farm.submit(small)
    notebook = new_notebook(cells=[new_code_cell(CELL.format(url=supervisor.settings.broker_url, job_id=job.id))])

    # A socket in the file system, because the other way warns that others may listen.
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc")
    NotebookClient(notebook, km=kernel, timeout=120).execute()

    shown, *_, said = notebook.cells[0].outputs
    bar = widget_of(notebook, shown)
    assert "completed" in bar
    assert "100%" in bar
    assert said["data"]["text/plain"] == "'success'"


def widget_of(notebook: Any, output: Any) -> str:
    """What an output widget shows at the end, without its colours."""
    widget = output["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    return "".join(part["data"]["text/plain"] for part in states[widget]["state"]["outputs"])
