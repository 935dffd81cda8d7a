"""Fixtures of all tests: real servers once per run, unique names per test; and the order that lets several workers end together."""

import gc
import secrets
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer.main
import typer.testing

from tests.forked import fork_interpreters, offer
from tests.infrastructure import running_servers
from tests.infrastructure import test_infrastructure as running_infrastructure
from tests.long_forms import IS_LONG
from tests.patience import patient
from tests.shared_servers import ServerDesk, ask_for_servers
from tests.worker_fork_server import WorkerForkServer
from tidemill.deploy.embedded.component import Component
from tidemill.deploy.embedded.infrastructure import Infrastructure

# Importing and collecting makes a million objects that stay: until that is done (`pytest_collection_finish`) nothing is garbage.
gc.disable()
# The command line is read from the signatures of a hundred functions, which do not change: once, not for each command that a test gives.
vars(typer.testing)["_get_command"] = cache(typer.main.get_command)
DESK = pytest.StashKey[ServerDesk]()
FORKS = pytest.StashKey[WorkerForkServer]()
# Seconds that a test of a folder takes, where it does not say itself (`pytest.mark.lasts`): an order of magnitude is enough.
USUAL_DURATION_S = {"e2e": 60.0, "integration": 5.0, "contract": 1.0, "property": 0.5, "unit": 0.0, "tests": 0.0}


def pytest_configure(config: pytest.Config) -> None:
    """In the process that controls workers: be ready to fork them, and to start the servers that they share. In a worker: know whom to ask."""
    if hasattr(config, "workerinput"):
        offer(config.workerinput["python"])
    elif getattr(config.option, "numprocesses", None):
        config.stash[DESK] = ServerDesk()
        config.stash[FORKS] = WorkerForkServer()
        config.option.tx = [config.stash[FORKS].specification if one == "popen" else one for one in config.option.tx]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Let several workers run the tests: the order is ours (below), and it is kept."""
    from tests.scheduling import LongestFirst

    return LongestFirst(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where it gets the servers' addresses, and an interpreter whose processes have imported Tidemill."""
    node.workerinput["servers"] = node.config.stash[DESK].address
    node.workerinput["python"] = node.config.stash[FORKS].python


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers and what forked the workers, also after Ctrl-C."""
    if DESK in config.stash:
        config.stash[DESK].close()
        config.stash[FORKS].close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out long forms, unless they are asked for. Begin with the longest tests, so that no worker is alone at the end."""
    if not IS_LONG:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    expect_names_of_their_own(items)
    items.sort(key=duration_s, reverse=True)
    for item in items:
        if item.config.getoption("timeout") is None:
            # Before the markers of the test itself, so that it is the one that counts.
            item.add_marker(pytest.mark.timeout(patient(limit_s(item))), append=False)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what was imported and collected, which stays, out of every later garbage collection: each would look at a million objects again."""
    gc.freeze()
    gc.enable()


def expect_names_of_their_own(items: list[pytest.Item]) -> None:
    """Raise where two tests have one name: of these pytest-xdist runs one, and tells nobody."""
    twice = sorted(name for name, count in Counter(item.nodeid for item in items).items() if count > 1)
    if twice:
        raise pytest.UsageError(
            f"expected a name for each test, found several tests called {', '.join(twice)}: in parallel only one of them would run"
        )


def limit_s(item: pytest.Item) -> float:
    """Return after how long a test is taken to hang, on a machine that does nothing else: by its marker, else the usual limit; 0 for never."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None else float(item.config.getini("timeout"))


def duration_s(item: pytest.Item) -> float:
    """How long a test takes, roughly: by its marker, else as usual in its folder."""
    marker = item.get_closest_marker("lasts")
    if marker is not None:
        return float(marker.args[0])
    return next(seconds for folder, seconds in USUAL_DURATION_S.items() if folder in item.path.parts)


@pytest.fixture(scope="session")
def infrastructure(request: pytest.FixtureRequest) -> Iterator[Infrastructure]:
    """Kafka, registry and Redis, shared by the whole run. Tests that kill a server start their own (`own_infrastructure`)."""
    worker = getattr(request.config, "workerinput", None)
    if worker is not None:
        yield ask_for_servers(worker["servers"])
    else:
        with running_infrastructure() as servers:
            yield servers


@pytest.fixture
def own_infrastructure() -> Iterator[Infrastructure]:
    """Embedded servers of this test alone, to be stopped and killed at will."""
    with Infrastructure.embedded() as servers:
        yield servers


@pytest.fixture
def own_kafka() -> Iterator[Component]:
    """An embedded broker of this test alone: a start without the registry's, which costs more."""
    with running_servers("kafka") as servers:
        yield servers["kafka"]


@pytest.fixture(scope="module")
def forked_interpreters() -> Iterator[None]:
    """Fork what a module's tests start as an interpreter (`tests.forked.fork_interpreters`)."""
    with pytest.MonkeyPatch.context() as patch:
        fork_interpreters(patch)
        yield


@pytest.fixture
def application_name() -> str:
    """A name no other test has used on the shared servers: application, topic prefix, Redis key prefix."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def topic_prefix(application_name: str) -> str:
    """What this test's topics begin with."""
    return application_name
