"""The processes of one embedded infrastructure, on free ports, not started yet."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tidemill.deploy.embedded.component import Component, free_port
from tidemill.deploy.embedded.folders import cache_folder
from tidemill.deploy.embedded.kafka import SESSION_S, kafka_component
from tidemill.deploy.embedded.programs import JavaPrograms
from tidemill.deploy.embedded.redis_server import redis_component
from tidemill.deploy.embedded.registry import registry_component


def prepare_servers(
    folder: Path, programs: JavaPrograms, caches: Mapping[str, Sequence[str]], brokers: int = 1, session_s: float = SESSION_S
) -> dict[str, Component]:
    """Prepare Redis, the brokers and the registry.

    Parameters
    ----------
    folder
        Their data and logs.
    programs, caches
        What the Java servers are started with, and their options of Java's cache, by the program's name.
    brokers
        Nodes of the Kafka cluster.
    session_s
        As of `kafka_component`.

    Returns
    -------
    dict
        By name, the fastest first: they are waited for in this order, and one that fails should say so at once.
    """
    voters = [free_port() for _ in range(brokers)]
    cluster = [
        kafka_component(
            folder / ("kafka" if brokers == 1 else f"kafka-{node}"),
            programs.kafka,
            caches[programs.kafka.name],
            free_port(),
            voters,
            cache_folder() / "embedded" / ("kafka-formatted" if node == 1 else f"kafka-formatted-{node}"),
            node,
            session_s,
        )
        for node in range(1, brokers + 1)
    ]
    registry = registry_component(folder / "registry", programs.registry, caches[programs.registry.name], free_port(), free_port())
    return {server.name: server for server in (redis_component(folder / "redis", free_port()), *cluster, registry)}
