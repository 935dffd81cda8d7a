"""Two topologies, or an old replica and a new one, alive at once under any names: every record is written once, and the stream goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tests.property.fused_stages import PLAN, System
from tests.property.test_fused import check_same
from tidemill.shared.log.broker import FencedError
from tidemill.shared.runner.runner import Runner
from tidemill.shared.service.stage import FUSIBLE

COUNT = 40
LEAD_GROUP = "flights-ingestion"
CHAINS: tuple[tuple[str, ...], ...] = (FUSIBLE, *((stage,) for stage in FUSIBLE))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> System:
    """What one topology writes, alone."""
    system = System(tmp_path_factory.mktemp("alone"), COUNT)
    system.finish(*(system.runner((stage,)) for stage in FUSIBLE))
    return system


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stands by looks at every step."""
    monkeypatch.setattr("tidemill.shared.runner.take_over._LOOK_EVERY_S", 0.0)


def system_of(folder: Path) -> System:
    """Return a system in which nobody waits for the transaction of a process that stands still: there is one thread."""
    system = System(folder, COUNT)
    system.broker.stable_timeout_s = 0.0
    return system


class InterruptedBroker:
    """Passes everything on; at one transactional call the process stands still, before or after it, while others go on."""

    def __init__(self, broker: Any, at: int, after: bool, meanwhile: Callable[[], None]) -> None:
        self._broker, self._left, self._after, self._meanwhile = broker, at, after, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def transactional_sink(self, transactional_id: str) -> Any:
        return _InterruptedSink(self._broker.transactional_sink(transactional_id), self)

    def call(self, action: Callable[[], Any]) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            self._meanwhile()
        result = action()
        if self._left == 0 and self._after:
            self._meanwhile()
        return result


class _InterruptedSink:
    def __init__(self, sink: Any, broker: InterruptedBroker) -> None:
        self._sink, self._broker = sink, broker

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._sink, name)
        return lambda *given: self._broker.call(lambda: method(*given))


class Processes:
    """Runners under a supervisor: one that is fenced starts again."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.alive: dict[tuple[tuple[str, ...], str], Runner] = {}

    def start(self, chain: tuple[str, ...], instance: str, broker: Any = None) -> None:
        self.alive[chain, instance] = self.system.runner(chain, broker, instance, backoff_max_ms=0, retries=10_000)

    def step(self, chain: tuple[str, ...], instance: str) -> None:
        try:
            self.alive[chain, instance].step()
        except FencedError:
            self.start(chain, instance)

    def round(self, count: int) -> None:
        for _ in range(count):
            for chain, instance in list(self.alive):
                self.step(chain, instance)

    def finish(self) -> None:
        covered = -2
        for _ in range(600):
            self.round(5)
            now = self.system.covered()
            if now == covered and now >= self.system._end():
                return
            covered = now
        raise AssertionError("the stream stands still")


@pytest.mark.parametrize("first", [True, False], ids=["fused came first", "separate came first"])
def test_an_old_replica_of_the_other_topology_doubles_nothing(tmp_path: Path, alone: System, first: bool) -> None:
    processes = Processes(system_of(tmp_path))
    fused, separate = [(FUSIBLE, "0")], [((stage,), "1") for stage in FUSIBLE]
    for chain, instance in fused if first else separate:
        processes.start(chain, instance)
    processes.round(6)
    for chain, instance in separate if first else fused:
        processes.start(chain, instance)
    processes.finish()
    check_same(processes.system, alone)


def test_what_stood_by_takes_over_when_the_other_topology_has_gone(tmp_path: Path, alone: System) -> None:
    processes = Processes(system_of(tmp_path))
    processes.start(FUSIBLE, "0")
    for stage in FUSIBLE:
        processes.start((stage,), "z")
    for _ in range(60):
        processes.round(1)
        if len(processes.system.read(PLAN.topics.vectors)):
            break
    assert not processes.alive[("features",), "z"].tasks, "the fused process holds the partition"
    del processes.alive[FUSIBLE, "0"]
    processes.system.broker.expire_member(LEAD_GROUP, "fused-0")
    processes.system.broker.expire_transactions()
    processes.finish()
    check_same(processes.system, alone)
    assert processes.alive[("features",), "z"].tasks


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(st.tuples(st.sampled_from(CHAINS), st.sampled_from("012"), st.integers(1, 8)), min_size=2, max_size=14),
    pause=st.tuples(st.sampled_from(CHAINS), st.sampled_from("012"), st.integers(1, 60), st.booleans(), st.booleans()),
)
def test_any_mixture_with_one_that_stands_still_at_any_call(
    tmp_path_factory: pytest.TempPathFactory,
    alone: System,
    moves: list[tuple[tuple[str, ...], str, int]],
    pause: tuple[tuple[str, ...], str, int, bool, bool],
) -> None:
    system = system_of(tmp_path_factory.mktemp("mixture"))
    processes = Processes(system)
    chain, instance, call, after, expires = pause

    def meanwhile() -> None:
        held = processes.alive.pop((chain, instance))
        if expires:
            system.broker.expire_transactions()
        for stage in FUSIBLE:
            processes.alive.setdefault(((stage,), "9"), system.runner((stage,), None, "9", backoff_max_ms=0, retries=10_000))
        if expires:
            system.broker.expire_member(f"flights-{chain[0]}", f"fused-{instance}" if chain == FUSIBLE else instance)
        processes.round(6)
        processes.alive[chain, instance] = held

    for one, name, steps in moves:
        if (one, name) not in processes.alive:
            stands_still = (one, name) == (chain, instance)
            processes.start(one, name, InterruptedBroker(system.broker, call, after, meanwhile) if stands_still else None)
        for _ in range(steps):
            processes.step(one, name)
    # Whichever process the group gives the leading partition to, somebody runs the stages behind it.
    for stage in FUSIBLE:
        if ((stage,), "9") not in processes.alive:
            processes.start((stage,), "9")
    processes.finish()
    check_same(system, alone)
