"""The simulation finds what is broken, says the same for the same seed, shrinks, and finds nothing in what is there."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaigns.simulate.ab_tests import ABTest, ab_tests_of
from campaigns.simulate.actions import Action, dump, load
from campaigns.simulate.checks import ViolationError
from campaigns.simulate.lake import MemoryLake
from campaigns.simulate.learned_classes import longest
from campaigns.simulate.run import RunResult, replay, run_seed
from campaigns.simulate.shrink import as_test, kind_of, shrink, shrunk
from campaigns.simulate.world import RunSettings
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.services.outcomes.domain.join import OutcomeJoin
from tidemill.services.scoring.deployed_models import DeployedModels
from tidemill.shared.log.records import StateEntry
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.memory.log import COMMITTED, Transaction
from tidemill.shared.runner.chain import Chain
from tidemill.shared.runner.running_task import RunningTask

KEPT = sorted((Path(__file__).parent / "kept").glob("*.json"))


def test_a_short_campaign_finds_nothing() -> None:
    faults: Counter[str] = Counter()
    pauses = classes = 0
    ends = []
    # Both explain; the first one times scoring, the second one learns its classes.
    for seed in (32, 18):
        result = run_seed(seed, 700)
        assert not result.violation, f"make simulate SEED={seed}: {result.violation}"
        assert result.rounds > 0
        faults += result.faults
        pauses, classes = pauses + result.pauses, max(classes, result.classes)
        ends.append(result.counts)
    assert pauses, "a flood pauses the stream that declares it"
    assert sum(end.tried for end in ends) > sum(end.answered for end in ends) > 0, "candidates are tried, and canaries answer"
    assert sum(end.compared for end in ends), "A/B tests have requests"
    assert all(end.explained for end in ends), "the answers of both have contributions"
    assert ends[0].timed, "windows of scoring times are told"
    assert classes > 2, "a version adds a class to those of the first"
    assert sum(faults.values()) > 120
    assert len(faults) > 30, "kinds of faults"


@pytest.mark.parametrize("versions", [[("a", "b"), ("a",)], [("a", "b"), ("b", "a", "c")]])
def test_classes_that_are_dropped_or_moved_are_found(versions: list[tuple[str, ...]]) -> None:
    assert longest([("a",), ("a", "b"), ("a", "b")]) == ("a", "b")
    with pytest.raises(ViolationError, match="only ever added"):
        longest(versions)


def test_one_seed_is_one_run() -> None:
    first, second = run_seed(11, 60), run_seed(11, 60)
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint == replay(first.settings, load(dump(first.actions))).fingerprint
    assert first.fingerprint != run_seed(12, 20).fingerprint


@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_what_once_failed_holds(path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    result = replay(RunSettings(**kept["settings"]), [Action.from_json(action) for action in kept["actions"]])
    assert not result.violation, f"{kept['name']} was: {kept['was']}"


def first_failure(seeds: Sequence[int], length: int = 400) -> RunResult:
    for seed in seeds:
        result = run_seed(seed, length)
        if result.violation:
            return result
    raise AssertionError("no run has failed")


def test_state_that_a_checkpoint_forgets_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(core: Any, entries: Sequence[StateEntry]) -> None:
        return None

    monkeypatch.setattr(FeaturesCore, "load", lambda core, keys, values: None)
    monkeypatch.setattr(FeaturesCore, "restore", forgetful)
    assert "vectors" in first_failure(range(1, 6)).violation


def test_offsets_that_a_commit_leaves_out_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = MemoryBroker.finish

    def torn(broker: MemoryBroker, transaction: Transaction, state: str) -> None:
        if state == COMMITTED and len(transaction.partitions) > 3:
            transaction.offsets.clear()
        finish(broker, transaction, state)

    monkeypatch.setattr(MemoryBroker, "finish", torn)
    assert "the group has committed" in first_failure(range(1, 3)).violation


@pytest.mark.long
def test_two_writers_of_other_names_are_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds the place of a progress record against the one that it was to have."""
    take_up = Chain.take_up

    def careless(chain: Chain, tasks: dict[int, list[RunningTask]]) -> None:
        take_up(chain, tasks)
        chain._progress = frozenset()

    monkeypatch.setattr(Chain, "take_up", careless)
    failure = first_failure(range(5, 9), 300)
    assert "expected to follow" in failure.violation
    small, again = shrunk(failure, budget=12)
    assert kind_of(again.violation) == kind_of(failure.violation)
    assert len(small) <= len(failure.actions) / 2
    kept = json.loads(as_test("doubled", again, small))
    assert [Action.from_json(action) for action in kept["actions"]] == small


def test_rows_that_the_lake_has_twice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    append = MemoryLake.append

    def careless(lake: MemoryLake, table: str, batch: Any, writer: str, offsets: Any) -> int:
        lake._last.pop((table, writer), None)
        return append(lake, table, batch, writer, offsets)

    monkeypatch.setattr(MemoryLake, "append", careless)
    assert "offsets twice" in first_failure(range(1, 8), 600).violation


def test_outcomes_that_depend_on_the_batching_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OutcomeJoin, "load", lambda join, state: None)
    assert first_failure(range(1, 8), 600).violation


@pytest.mark.long
def test_a_canary_that_outlives_its_trial_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = DeployedModels.follow

    def forgetful(models: DeployedModels, events: Any) -> None:
        before = {name: serving.challenge for name, serving in models.serving.items()}
        follow(models, events)
        for name, serving in models.serving.items():
            models.serving[name] = replace(serving, challenge=serving.challenge or before.get(name))

    monkeypatch.setattr(DeployedModels, "follow", forgetful)
    assert "is no state of the lifecycle log" in first_failure((104,), 900).violation


def test_shrinking_leaves_what_the_failure_needs() -> None:
    actions = [Action("advance", number=n) for n in range(100)]
    runs = 0

    def fails(some: Sequence[Action]) -> bool:
        nonlocal runs
        runs += 1
        return {3, 77, 78} <= {action.number for action in some}

    assert [action.number for action in shrink(actions, fails)] == [3, 77, 78]
    assert runs < 120


@pytest.mark.parametrize(
    ("meanwhile", "violates"),
    [
        ([], False),
        (["registered", "gate_refused", "command_refused"], False),
        (["stepped_back", "canary"], False),
        (["rolled_back", "ab"], False),
        (["canary"], True),
        (["ab"], True),
        (["goes on"], True),
    ],
)
def test_what_is_tried_or_promoted_within_an_ab_test_is_found(meanwhile: list[str], violates: bool) -> None:
    names = ["registered", "promoted", "ab", *meanwhile]
    details = {"goes on": {"trial": "goes on"}}
    events = [
        {"sequence": i, "event": "promoted" if name in details else name, "version": f"v{i}", "share": 0.4, "details": details.get(name, {})}
        for i, name in enumerate(names)
    ]
    if violates:
        with pytest.raises(ViolationError, match="while the A/B test of event 2 runs"):
            ab_tests_of(events)
    else:
        assert ab_tests_of(events)[2] == ABTest(1, 0.4)
