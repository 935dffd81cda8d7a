"""Processes of the integration tests are forked from one that has imported Tidemill."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def forks(request: pytest.FixtureRequest) -> None:
    """Fork what is started as an interpreter, except where a module says that it is about interpreters."""
    if request.node.get_closest_marker("own_interpreters") is None:
        request.getfixturevalue("forked_interpreters")
