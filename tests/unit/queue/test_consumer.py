"""A worker whose registry is away while it has a message that it must put aside."""

import os
import subprocess
import sys

UNREACHABLE = "redis://127.0.0.1:1"

PUT_ASIDE = """
from kombu import Message
from tasks.celery import app
from tasks.consumer import StepConsumer

consumer = StepConsumer.__new__(StepConsumer)
try:
    consumer.on_decode_error(Message(body="nonsense"), ValueError("no step"))
except ConnectionError as error:
    print(repr(error))
"""


def test_a_message_that_cannot_be_put_aside_is_delivered_again():
    """Celery takes a lost connection for a reason to connect anew; over others it would end."""
    environ = {**os.environ, "FARM_BROKER_URL": UNREACHABLE}
    done = subprocess.run(
        [sys.executable, "-c", PUT_ASIDE], env=environ, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ConnectionResetError('the registry does not answer')"
