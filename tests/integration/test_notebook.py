"""Cells of a notebook that follow a job, and show its video."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError
from nbformat.v4 import new_code_cell, new_notebook

from farm import Farm
from tests.support.small_farm import SmallFarm

IDLE_S = 60
"""How long a cell may take before its kernel is replaced; the job goes on meanwhile."""

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
    notebook = executed([code, "job", "await job"], tmp_path)

    widget, *_, state = notebook.cells[0].outputs
    bar = text_of_widget(notebook, widget)
    assert "completed" in bar
    assert "100%" in bar
    assert state["data"]["text/plain"] == "'success'"
    for cell in notebook.cells[1:]:
        assert '<video src="data:video/mp4;base64,' in cell.outputs[0]["data"]["text/html"]


def executed(cells: list[str], folder: Path) -> Any:
    """The notebook of these cells, with their outputs.

    On a busy machine a kernel may stay idle with the next request in its socket, for good; another
    one then takes all of them.
    """
    for number in count():
        notebook = new_notebook(cells=[new_code_cell(each) for each in cells])
        # Sockets in the file system, because a TCP port warns that others may listen.
        ipc = str(folder / f"ipc-{number}")
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=ipc)
        with suppress(CellTimeoutError):
            NotebookClient(notebook, km=kernel, timeout=IDLE_S, startup_timeout=600).execute()
            break
    return notebook


def text_of_widget(notebook: Any, output: Any) -> str:
    """What an output widget shows at the end, without its colours."""
    widget = output["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    return "".join(part["data"]["text/plain"] for part in states[widget]["state"]["outputs"])
