"""A visitor of the page, who calls the handlers that its buttons call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

PREDICT = "/gradio_api/run/predict"


class Visitor:
    """A browser after its login."""

    def __init__(self, client: httpx2.Client, name: str, password: str) -> None:
        self.client = client
        self.name = name
        form = {"username": name, "password": password}
        assert client.post("/login", data=form).status_code == 200
        self.config = client.get("/config").json()
        self.components = {each["id"]: each for each in self.config["components"]}

    def call(self, trigger: str, event: str, values: dict[str, Any]) -> list[Any]:
        """What the handler of a component's event returns; `values` by element, or by type, and
        `event_data` as the event has it.
        """
        (target,) = (
            each["id"]
            for each in self.components.values()
            if trigger in (each["props"].get("elem_id"), each["type"])
        )
        (handler,) = (
            each
            for each in self.config["dependencies"]
            if [target, event] in each["targets"] and each["backend_fn"]
        )
        data = [self._value(each, values) for each in handler["inputs"]]
        body = {"fn_index": handler["id"], "data": data, "session_hash": self.name}
        body["event_data"] = values.get("event_data")
        answer = self.client.post(PREDICT, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def _value(self, component_id: int, values: dict[str, Any]) -> Any:
        component = self.components[component_id]
        props = component["props"]
        for name in (props.get("elem_id"), component["type"]):
            if name in values:
                return values[name]
        return props.get("value")

    def upload(self, path: Path) -> dict[str, Any]:
        (stored,) = self.client.post(
            "/gradio_api/upload", files={"files": (path.name, path.read_bytes())}
        ).json()
        return {"path": stored, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def listed(self, *job_ids: str) -> list[str]:
        """The jobs that the page shows, of those in the browser's list."""
        own_jobs = [[job_id, "a prompt"] for job_id in job_ids]
        items, *_ = self.call("timer", "tick", {"browserstate": own_jobs})
        return [item["id"] for item in items]

    def cancel(self) -> None:
        """Cancels the job that the page shows."""
        self.call("cancel", "click", {})
