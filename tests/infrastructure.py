"""The servers the tests run on: embedded (default), in containers, or given by address. Never mocked, never skipped."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from deploy.embedded.infrastructure import VARIABLES, Infrastructure

BACKEND = "TIDEMILL_TEST_BACKEND"
KAFKA_PORT = 9092
REGISTRY_PORT = 8080


@contextmanager
def test_infrastructure() -> Iterator[Infrastructure]:
    """Run, or reach, the servers of the backend that `TIDEMILL_TEST_BACKEND` names: embedded, testcontainers or given."""
    backend = os.environ.get(BACKEND) or ("given" if any(os.environ.get(name) for name in VARIABLES) else "embedded")
    if backend == "embedded":
        with Infrastructure.embedded() as infrastructure:
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


test_infrastructure.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def _containers() -> Iterator[Infrastructure]:
    """Run the three servers with testcontainers; the images can be set, for a mirror."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy
    from testcontainers.kafka import KafkaContainer
    from testcontainers.redis import RedisContainer

    images = {
        "KAFKA": os.environ.get("TIDEMILL_KAFKA_IMAGE", "confluentinc/cp-kafka:8.1.0"),
        "REGISTRY": os.environ.get("TIDEMILL_REGISTRY_IMAGE", "apicurio/apicurio-registry:3.3.3"),
        "REDIS": os.environ.get("TIDEMILL_REDIS_IMAGE", "redis:7.4-alpine"),
    }
    with ExitStack() as stack:
        kafka = KafkaContainer(images["KAFKA"]).with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
        kafka = kafka.with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0").with_env("KAFKA_LOG_RETENTION_MS", "-1")
        kafka = stack.enter_context(kafka)
        registry = DockerContainer(images["REGISTRY"]).with_exposed_ports(REGISTRY_PORT)
        registry = registry.waiting_for(HttpWaitStrategy(REGISTRY_PORT, "/apis/ccompat/v7/subjects").for_status_code(200))
        registry = stack.enter_context(registry)
        redis = stack.enter_context(RedisContainer(images["REDIS"]))
        registry_url = f"http://{registry.get_container_host_ip()}:{registry.get_exposed_port(REGISTRY_PORT)}/apis/ccompat/v7"
        redis_url = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0"
        yield Infrastructure.given(kafka.get_bootstrap_server(), registry_url, redis_url)
