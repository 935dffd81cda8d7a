"""The servers the tests run on: embedded (default), in containers, or given by address. Never mocked, never skipped."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tidemill.deploy.embedded.component import Component, free_port
from tidemill.deploy.embedded.infrastructure import VARIABLES, Infrastructure
from tidemill.deploy.embedded.programs import java_caches, java_programs
from tidemill.deploy.embedded.registry import API
from tidemill.deploy.embedded.servers import prepare_servers

BACKEND = "TIDEMILL_TEST_BACKEND"
# Nobody kills this broker, and on a loaded machine it may get no processor time for seconds: its partitions would have no leader then.
_SESSION_S = 60.0
KAFKA_ENVIRONMENT = {
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_NODE_ID": "1",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "1",
    "KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS": "1000",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
    "KAFKA_BROKER_SESSION_TIMEOUT_MS": str(round(1_000 * _SESSION_S)),
    "KAFKA_MESSAGE_MAX_BYTES": "10485760",
    "KAFKA_LOG_RETENTION_MS": "-1",
}


@contextmanager
def test_infrastructure() -> Iterator[Infrastructure]:
    """Run, or reach, the servers of the backend that `TIDEMILL_TEST_BACKEND` names: embedded, testcontainers or given."""
    backend = os.environ.get(BACKEND) or ("given" if any(os.environ.get(name) for name in VARIABLES) else "embedded")
    if backend == "embedded":
        with Infrastructure.embedded(session_s=_SESSION_S) as infrastructure:
            yield infrastructure
    elif backend == "testcontainers":
        with _containers() as infrastructure:
            yield infrastructure
    elif backend == "given":
        missing = [name for name in VARIABLES if not os.environ.get(name)]
        if missing:
            raise RuntimeError(f"{BACKEND}=given: expected the variables {', '.join(VARIABLES)}; not set: {', '.join(missing)}")
        with Infrastructure.from_environment() as infrastructure:
            yield infrastructure
    else:
        raise RuntimeError(f"{BACKEND}: expected embedded, testcontainers or given, came {backend!r}")


@contextmanager
def running_servers(*names: str) -> Iterator[Mapping[str, Component]]:
    """Run some embedded servers (kafka, registry, redis) for one test alone, to be stopped and killed at will. A registry's start is dear."""
    programs = java_programs()
    with tempfile.TemporaryDirectory(prefix="tidemill-servers-") as folder:
        prepared = prepare_servers(Path(folder), programs, {name: cache.reading for name, cache in java_caches(programs).items()})
        servers = {name: prepared[name] for name in names}
        try:
            for server in servers.values():
                server.launch()
            for server in servers.values():
                server.wait_until_ready()
            yield servers
        finally:
            for server in servers.values():
                server.begin_stop()
            for server in servers.values():
                server.stop()


test_infrastructure.__test__ = False  # type: ignore[attr-defined]  # a mark for pytest: the function is no test


@contextmanager
def _containers() -> Iterator[Infrastructure]:
    """Run the three servers with testcontainers; the images can be set, for a mirror."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.docker_client import DockerClient
    from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

    host = DockerClient().host()
    # A broker tells its clients where it is, so its port on the host must be known before it starts.
    port = free_port()
    kafka = DockerContainer(os.environ.get("TIDEMILL_KAFKA_IMAGE", "apache/kafka:4.1.2")).with_bind_ports(port, port)
    for name, value in KAFKA_ENVIRONMENT.items():
        kafka = kafka.with_env(name, value)
    kafka = kafka.with_env("KAFKA_LISTENERS", f"PLAINTEXT://:{port},CONTROLLER://127.0.0.1:9093")
    kafka = kafka.with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://{host}:{port}")
    kafka = kafka.waiting_for(LogMessageWaitStrategy("Kafka Server started"))
    registry = DockerContainer(os.environ.get("TIDEMILL_REGISTRY_IMAGE", "apicurio/apicurio-registry:3.3.3")).with_exposed_ports(8080)
    registry = registry.waiting_for(HttpWaitStrategy(8080, f"{API}/subjects").for_status_code(200))
    redis = DockerContainer(os.environ.get("TIDEMILL_REDIS_IMAGE", "redis:7.4-alpine")).with_exposed_ports(6379)
    redis = redis.waiting_for(LogMessageWaitStrategy("Ready to accept connections"))
    with kafka, registry, redis:
        registry_url = f"http://{host}:{registry.get_exposed_port(8080)}{API}"
        yield Infrastructure.given(f"{host}:{port}", registry_url, f"redis://{host}:{redis.get_exposed_port(6379)}/0")
