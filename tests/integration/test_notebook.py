"""Cells of a notebook that follow a job, and show its video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from farm import Farm
from tests.support.small_farm import SmallFarm

CELL = """
from farm import Farm
from farm.client.progress import follow

job = Farm({url!r}).job({job_id!r})
follow(job).state
"""


def test_a_notebook_shows_the_progress_of_a_job_as_a_bar_and_then_its_video(
    supervisor: SmallFarm, farm: Farm, small: dict[str, Any], tmp_path: Path
) -> None:
    job = farm.submit(small)
    code = CELL.format(url=supervisor.settings.broker_url, job_id=job.id)
    notebook = new_notebook(cells=[new_code_cell(each) for each in (code, "job", "await job")])

    # Sockets in the file system, because a TCP port warns that others may listen.
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(tmp_path / "ipc"))
    NotebookClient(notebook, km=kernel, timeout=None, startup_timeout=600).execute()

    widget, *_, state = notebook.cells[0].outputs
    bar = text_of_widget(notebook, widget)
    assert "completed" in bar
    assert "100%" in bar
    assert state["data"]["text/plain"] == "'success'"
    for cell in notebook.cells[1:]:
        assert '<video src="data:video/mp4;base64,' in cell.outputs[0]["data"]["text/html"]


def text_of_widget(notebook: Any, output: Any) -> str:
    """What an output widget shows at the end, without its colours."""
    widget = output["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    return "".join(part["data"]["text/plain"] for part in states[widget]["state"]["outputs"])
