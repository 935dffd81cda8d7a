"""Broker, registry and Redis are killed, paused, emptied and away."""

import os
import signal
from collections.abc import Callable, Iterator
from random import Random

import redis
from confluent_kafka import KafkaException

from campaigns.chaos.fault import Kind, Wait
from campaigns.chaos.world import World

_AWAY_S, _LONG_AWAY_S = (0.0, 3.0), 120.0
_PAUSED_S = (0.5, 8.0)
_ASK_S = 2.0
# At once, as a flush is: what says that something was lost must not go before the rest does.
_FORGET = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end"


def _targets(prefix: str) -> Callable[[World], list[str]]:
    """Return what finds the servers of this name, when no fault holds one of them."""

    def free(world: World) -> list[str]:
        components = [name for name in world.servers.components if name.startswith(prefix)]
        return [] if world.held & set(components) else components

    return free


def _leaders(world: World) -> list[str]:
    """Return which brokers lead partitions of the journal, of several: who was killed just now may lead nothing for a long time."""
    brokers = _targets("kafka-")(world)
    if not brokers:
        return []
    topic = world.plan.topics.journal
    try:
        partitions = world.admin.list_topics(topic, timeout=_ASK_S).topics[topic].partitions.values()
    except KafkaException:
        # None of them answers: there is no leader to kill.
        return []
    return sorted({f"kafka-{partition.leader}" for partition in partitions} & set(brokers))


def _killed(world: World, target: str, away_s: float) -> Iterator[Wait]:
    with world.holding(target):
        component = world.servers.components[target]
        component.kill()
        yield away_s
        component.launch()
        yield component.ready


def _kill(world: World, target: str, rng: Random) -> Iterator[Wait]:
    return _killed(world, target, rng.uniform(*_AWAY_S))


def _long_away(world: World, target: str, rng: Random) -> Iterator[Wait]:
    return _killed(world, target, _LONG_AWAY_S)


def _pause(world: World, target: str, rng: Random) -> Iterator[Wait]:
    with world.holding(target):
        component = world.servers.components[target]
        os.kill(component.pid, signal.SIGSTOP)
        try:
            yield rng.uniform(*_PAUSED_S)
        finally:
            os.kill(component.pid, signal.SIGCONT)
        yield component.ready


def _flush(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """Redis loses everything that it has of the application."""
    with redis.Redis.from_url(world.servers.redis_url) as client:
        client.eval(_FORGET, 0, f"{world.plan.application.app}:*")
    yield 0.0


def _redis_answers(world: World) -> list[str]:
    return [] if "redis" in world.held else ["redis"]


KINDS = (
    Kind("leader SIGKILL", _leaders, _kill, 2, embedded=True),
    Kind("broker SIGKILL", _targets("kafka"), _kill, 2, embedded=True),
    Kind("broker SIGSTOP", _targets("kafka"), _pause, 2, embedded=True),
    Kind("registry SIGKILL", _targets("registry"), _kill, embedded=True),
    Kind("registry SIGSTOP", _targets("registry"), _pause, embedded=True),
    Kind("registry away for two minutes", _targets("registry"), _long_away, embedded=True, long=True),
    Kind("Redis SIGKILL", _targets("redis"), _kill, 2, embedded=True),
    Kind("Redis SIGSTOP", _targets("redis"), _pause, embedded=True),
    Kind("Redis flushed", _redis_answers, _flush, 2),
    Kind("Redis away for two minutes", _targets("redis"), _long_away, embedded=True, long=True),
)
