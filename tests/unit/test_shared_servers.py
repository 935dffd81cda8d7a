"""What the workers of a test run are told about its servers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.infrastructure import BACKEND
from tests.scheduling import shares_a_set_up
from tests.shared_servers import ServerDesk, ask_for_servers
from tidemill.deploy.embedded.infrastructure import VARIABLES

GIVEN = ("127.0.0.1:1", "http://127.0.0.1:2", "redis://127.0.0.1:3")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerDesk]:
    """A desk whose servers are given: started is none."""
    monkeypatch.setenv(BACKEND, "given")
    for name, value in zip(VARIABLES, GIVEN, strict=True):
        monkeypatch.setenv(name, value)
    opened = ServerDesk()
    yield opened
    opened.close()


def test_every_worker_gets_the_same_servers(desk: ServerDesk) -> None:
    with ThreadPoolExecutor(8) as workers:
        told = list(workers.map(lambda _: ask_for_servers(desk.address).environment, range(30)))
    assert told == [dict(zip(VARIABLES, GIVEN, strict=True))] * 30


def test_why_the_servers_did_not_start_is_told_to_every_worker(desk: ServerDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLES[1])
    for _ in range(3):
        with pytest.raises(RuntimeError, match=f"did not start: .*{VARIABLES[1]}"):
            ask_for_servers(desk.address)


def test_a_closed_desk_leaves_nothing(desk: ServerDesk) -> None:
    desk.close()
    assert not Path(desk.address).parent.exists()
    with pytest.raises(OSError, match=r"."):
        ask_for_servers(desk.address)


def test_a_module_with_a_set_up_of_its_own_stays_together() -> None:
    tests = Path(__file__).parents[1]
    assert shares_a_set_up(tests / "integration" / "test_bad_input.py") and not shares_a_set_up(tests / "integration" / "test_up.py")
