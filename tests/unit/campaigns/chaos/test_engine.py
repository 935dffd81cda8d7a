"""The engine counts what strikes, times until answers flow, and says what never came back."""

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from campaigns.chaos import engine as engine_module
from campaigns.chaos.chunk import ChunkResult
from campaigns.chaos.engine import Engine
from campaigns.chaos.fault import Kind, MissedError, Strikes, Wait
from campaigns.chaos.results import Results, line
from campaigns.chaos.world import World


class Answering:
    """Traffic that is answered a given time after each mark, or never."""

    def __init__(self, after_s: float | None) -> None:
        self.after_s = after_s
        self.marks = 0

    def mark(self) -> int:
        self.marks += 1
        return self.marks

    def answered_since(self, mark: int, partitions: Sequence[int]) -> float | None:
        return None if self.after_s is None else time.monotonic() + self.after_s

    def silent_since(self, mark: int, partitions: Sequence[int]) -> list[int]:
        return [2]


class Plan:
    class application:
        partitions = 4


class Quiet:
    """A world in which nothing runs."""

    embedded, long = False, False

    def __init__(self, traffic: Answering) -> None:
        self.traffic, self.rng, self.plan = traffic, random.Random(1), Plan()

    def check(self) -> None:
        return

    def standing(self) -> str:
        return "not ready: drift"


def made(kinds: Sequence[Kind], traffic: Answering) -> Engine:
    return Engine(cast(World, Quiet(traffic)), kinds)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "TICK_S", 0.0)
    monkeypatch.setattr(engine_module, "_PAUSE_S", (0.0, 0.0))


def kind(name: str, *waits: Any, weight: int = 1, embedded: bool = False, misses: bool = False) -> Kind:
    def course(world: World, target: str, rng: random.Random) -> Iterator[Wait]:
        yield from waits
        if misses:
            raise MissedError

    return Kind(name, lambda _: ["it"], course, weight, embedded)


def test_every_kind_comes_as_often_as_its_weight_says() -> None:
    tried = made([kind("one", weight=3), kind("two"), kind("servers", embedded=True)], Answering(0.0))
    tried.run(8)
    names = [fault.kind for fault in tried.faults]
    assert names.count("one") == 6 and names.count("two") == 2 and not tried.problems
    assert all(fault.recovered_s is not None and fault.recovered_s < 10 for fault in tried.faults)


def test_what_has_nothing_to_strike_does_not_hold_up_the_others() -> None:
    """Leaders where there is one broker: a run of more faults than the other kinds have weight stood still."""
    homeless = Kind("leader", lambda _: [], kind("leader").course, 2)
    tried = made([homeless, kind("one"), kind("two")], Answering(0.0))
    tried.run(5)
    assert [fault.kind for fault in tried.faults].count("one") in (2, 3) and tried.struck == 5


def test_what_missed_its_moment_does_not_count() -> None:
    tried = made([kind("late", misses=True), kind("good")], Answering(0.0))
    tried.run(3)
    assert tried.struck == 3 and sum(fault.missed for fault in tried.faults) >= 2


def test_a_fault_strikes_when_it_says_so() -> None:
    looks = iter((False, False, True))
    tried = made([kind("at a call", lambda: next(looks), Strikes(), 0.0)], Answering(0.0))
    tried.run(1)
    assert next(looks, None) is None and tried.faults[0].mark == 2 and tried.faults[0].ended_s is not None


@pytest.mark.parametrize(("waits", "after_s", "what"), [((), None, "answers do not flow"), ((lambda: False,), 0.0, "is not back")])
def test_what_never_comes_back_is_a_problem(monkeypatch: pytest.MonkeyPatch, waits: Any, after_s: float | None, what: str) -> None:
    monkeypatch.setattr(engine_module, "DEADLINE_S", 0.05)
    tried = made([kind("for ever", *waits)], Answering(after_s))
    tried.run(1)
    assert len(tried.problems) == 1 and what in tried.problems[0]


def test_a_campaign_goes_on_from_its_file(tmp_path: Any) -> None:
    fault = {"kind": "SIGKILL", "target": "0", "at_s": 0.0, "mark": 0, "recovered_s": 2.0, "ended_s": 2.0, "missed": False}
    results = Results(tmp_path / "results.json", 1)
    results.add(ChunkResult(1, [fault, {**fault, "recovered_s": 4.0}], checkpoints=[{"good": 10}]))
    again = Results(tmp_path / "results.json", 1)
    assert again.struck == 2 and not again.failed and again.recovery()["SIGKILL"]["p50"] == 3.0
    again.add(ChunkResult(2, [fault], problems=["one is lost"]))
    assert Results(tmp_path / "results.json", 1).failed == 1 and "1 problems" in line(again.chunks[-1])


def test_a_long_run_in_which_no_candidate_was_on_trial_is_not_green(tmp_path: Any) -> None:
    fault = {"kind": "SIGKILL as a candidate moves", "recovered_s": 2.0}
    results = Results(tmp_path / "results.json", 1)
    results.add(ChunkResult(1, [fault] * 30, checkpoints=[{"scored in shadow": 9}, {"scored in shadow": 10, "answered by a canary": 3}]))
    assert not results.untested and "10 scored in shadow, 3 answered by a canary, 0 in an A/B test" in line(results.chunks[0])
    results.add(ChunkResult(2, [fault] * 20, checkpoints=[{"scored in shadow": 1}]))
    assert results.untested == ["in an A/B test"]
    assert results.trials == {"scored in shadow": 11, "answered by a canary": 3, "in an A/B test": 0}


def test_a_long_wait_says_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_REPORT_S", 0.01)
    monkeypatch.setattr(engine_module, "DEADLINE_S", 0.1)
    said: list[str] = []
    tried = Engine(cast(World, Quiet(Answering(None))), [kind("for ever", lambda: False)], said.append, at_once=1)
    tried.run(1)
    assert any("after for ever (it): partitions [2] have not answered; what it struck is not back; not ready: drift" in text for text in said)
    assert not tried.until(lambda: False, "the lake is full", 0.1)
    assert any("the lake is full; not ready: drift" in text for text in said)
