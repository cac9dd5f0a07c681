"""A worker whose registry or broker is away while it has a message in hand."""

import pytest

from tests.support.commands import run_python

UNREACHABLE = "redis://127.0.0.1:1"

PUT_ASIDE = """
from kombu import Message
from farm.tasks.celery import app
from farm.tasks.consumer import StepConsumer

consumer = StepConsumer.__new__(StepConsumer)
try:
    consumer.on_decode_error(Message(body="nonsense"), ValueError("no step"))
except ConnectionError as error:
    print(repr(error))
"""

ACKNOWLEDGE = """
import logging, sys
from types import SimpleNamespace
from kombu import Message
from farm.tasks.consumer import StepConsumer

class Lost:
    no_ack_consumers = None
    def basic_ack(self, *_, **__):
        raise ConnectionError("the broker is gone")

delivered_by = Lost()
consumer = StepConsumer.__new__(StepConsumer)
consumer.hub = SimpleNamespace(call_soon=lambda promise: promise())
consumer.task_consumer = SimpleNamespace(channel=delivered_by if "same" in sys.argv else Lost())
message = Message(channel=delivered_by)
try:
    consumer.call_soon_ack(message.ack_log_error, logging.getLogger(), (ConnectionError,))
except ConnectionError as error:
    print("raised")
"""


def test_a_message_that_cannot_be_put_aside_is_delivered_again():
    """Celery takes a lost connection for a reason to connect anew; over others it would end."""
    done = run_python(PUT_ASIDE, FARM_BROKER_URL=UNREACHABLE)
    assert done.stdout.strip() == "ConnectionResetError('the registry does not answer')"


@pytest.mark.parametrize(("connection", "printed"), [("same", "raised"), ("newer", "")])
def test_a_worker_that_cannot_acknowledge_connects_anew_unless_it_has(connection, printed):
    """Otherwise it would count the message for ever, and in the end take no other."""
    done = run_python(ACKNOWLEDGE, connection, FARM_BROKER_URL=UNREACHABLE)
    assert done.stdout.strip() == printed
