"""Jobs through the broker, to whatever workers listen."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from farm.app import make_app
from farm.errors import FarmUnreachable
from farm.steps.place import Place
from farm.steps.route import Step
from farm.workflow import send


class QueuedTransport:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.app: Celery = make_app(place.settings)

    def send(self, job_id: str, step: Step) -> None:
        try:
            send(self.app, self.place, job_id, step)
        except OperationalError as error:
            raise FarmUnreachable(f"the broker did not take job {job_id}: {error}") from error
