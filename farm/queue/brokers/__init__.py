"""The brokers that carry the farm's messages: Redis or Valkey, and RabbitMQ."""

from __future__ import annotations

from farm.queue.brokers.broker import Broker
from farm.queue.brokers.rabbitmq import RabbitMQBroker
from farm.queue.brokers.redis import RedisBroker
from farm.registry.registry import unknown_broker
from farm.settings import RABBITMQ, REDIS, Settings


def broker_class(settings: Settings) -> type[Broker]:
    """The broker that FARM_BROKER_URL names; InvalidInput if it is of an unknown kind."""
    url = settings.broker_address
    if url.startswith(REDIS):
        return RedisBroker
    if url.startswith(RABBITMQ):
        return RabbitMQBroker
    raise unknown_broker(url, "redis://, rediss://, amqp:// or amqps://")


def open_broker(settings: Settings) -> Broker:
    """The broker of a farm; it is contacted when it is first asked something."""
    return broker_class(settings)(settings)


def check_shared(settings: Settings) -> None:
    """Raises InvalidInput for a broker or a registry that other processes have no part in."""
    broker_class(settings)
    _ = settings.registry_address


__all__ = ["Broker", "broker_class", "check_shared", "open_broker"]
