"""Fixtures of all tests: real servers once per session, unique names per test."""

import secrets
from collections.abc import Iterator

import pytest

from deploy.embedded.infrastructure import Infrastructure
from tests.infrastructure import test_infrastructure as running_infrastructure


@pytest.fixture(scope="session")
def infrastructure() -> Iterator[Infrastructure]:
    """Kafka, registry and Redis, shared by the session. Tests that kill a server start their own (`own_infrastructure`)."""
    with running_infrastructure() as servers:
        yield servers


@pytest.fixture
def own_infrastructure() -> Iterator[Infrastructure]:
    """Embedded servers of this test alone, to be stopped and killed at will."""
    with Infrastructure.embedded() as servers:
        yield servers


@pytest.fixture
def application_name() -> str:
    """A name no other test has used on the shared servers: application, topic prefix, Redis key prefix."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def topic_prefix(application_name: str) -> str:
    """What this test's topics begin with."""
    return application_name
