"""The join against a brute-force reading of its rules, over random schedules and restarts."""

import random
from time import process_time
from typing import Any

import pytest

from tidemill.services.outcomes.domain.join import JoinPolicy, Outcome, OutcomeJoin
from tidemill.services.outcomes.domain.request import At, Request, TimedLabel

DELAY = 100
Event = tuple[int, int, str, str]  # journal time, offset, kind, request id


def request(identity: str, offset: int, time: int) -> Request:
    return Request(identity, offset, time, time - 1, 0.25, 0, "v1", 3, "champion")


def schedule(seed: int) -> list[Event]:
    generator = random.Random(seed)
    events: list[tuple[int, str, str]] = []
    for i in range(120):
        asked = generator.randrange(1_500)
        events.append((asked, "ask", f"r{i}"))
        for _ in range(generator.choice([0, 1, 1, 1, 2, 3])):
            events.append((max(0, asked + generator.choice([-150, -60, -1, 1, 30, 99, 100, 101, 130, 199, 250])), "label", f"r{i}"))
    events += [(generator.randrange(1_500), "label", f"nobody{i}") for i in range(15)] + [(time, "tick", "") for time in range(0, 2_200, 37)]
    generator.shuffle(events)
    return [(time, offset, kind, identity) for offset, (time, kind, identity) in enumerate(sorted(events, key=lambda event: event[0]))]


def play(events: list[Event], policy: JoinPolicy, restarts: random.Random | None = None) -> tuple[list[Outcome], int]:
    join, outcomes, ignored = OutcomeJoin([policy]), [], 0
    stored: dict[str, bytes] = {}
    for time, offset, kind, identity in events:
        at = At(time, 0, offset)
        outcomes += join.advance(at)
        if kind == "ask":
            outcomes += join.request("m", request(identity, offset, time), at)
        elif kind == "label":
            outcomes += join.label("m", identity, TimedLabel(float(offset % 2), time), at)
        if restarts is not None and restarts.random() < 0.2:
            for key, blob in join.snapshot().items():
                if blob is None:
                    stored.pop(key, None)
                else:
                    stored[key] = blob
            if restarts.random() < 0.5:
                ignored += join.ignored_labels
                join = OutcomeJoin([policy])
                join.load(dict(sorted(stored.items(), key=lambda _: restarts.random())))
    return outcomes, ignored + join.ignored_labels


def brute_force(events: list[Event], policy: JoinPolicy) -> set[tuple[Any, ...]]:
    """Each request alone: what its labels, the first instant after its deadline and the policy say."""
    expected: set[tuple[Any, ...]] = set()
    asked = {identity: (time, offset) for time, offset, kind, identity in events if kind == "ask"}
    labels: dict[str, list[tuple[int, int]]] = {}
    for time, offset, kind, identity in events:
        if kind == "label":
            labels.setdefault(identity, []).append((time, offset))

    def first_after(bound: int, after: int = -1) -> tuple[int, int] | None:
        return next(((time, offset) for time, offset, _, _ in events if time > bound and offset > after), None)

    for identity in {*asked, *labels}:
        told = labels.get(identity, [])
        time, offset = asked.get(identity, (10**9, 10**9))
        early = [label for label in told if label[1] < offset]
        waiting = []
        for label in early:
            gone = first_after(label[0] + DELAY)
            if gone is not None and gone[1] <= offset:
                expected.add((gone[1], identity, "unmatched", label[1] % 2, None, 0))
            else:
                waiting.append(label)
        if identity not in asked:
            continue
        forgotten, late = first_after(time + 2 * DELAY), first_after(time + DELAY)
        status, revision = "pending", 0
        mine = [(offset, label) for label in waiting] + [(label[1], label) for label in told if label[1] > offset]
        for place, label in mine:
            if late is not None and late[1] <= place and status == "pending":
                status = "timeout"
                expected.add((late[1], identity, "timeout", policy.timeout_label, None, 0))
            if forgotten is not None and forgotten[1] <= place:
                gone = first_after(label[0] + DELAY, label[1])
                if gone is not None:
                    expected.add((gone[1], identity, "unmatched", label[1] % 2, None, 0))
            elif status == "pending":
                status = "labelled"
                expected.add((place, identity, "labelled", label[1] % 2, label[0] - time, 0))
            elif policy.last_correction_wins:
                revision += 1
                expected.add((place, identity, "corrected", label[1] % 2, label[0] - time, revision))
        if status == "pending" and late is not None:
            expected.add((late[1], identity, "timeout", policy.timeout_label, None, 0))
    return expected


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("policy", [JoinPolicy("m", DELAY), JoinPolicy("m", DELAY, 0.0, True)], ids=["first", "last"])
def test_agrees_with_brute_force_over_random_schedules(seed: int, policy: JoinPolicy) -> None:
    events = schedule(seed)
    outcomes, _ = play(events, policy)
    published = [
        (one.at.offset, one.request.request_id, one.status, None if one.label is None else one.label.value, one.delay_ms, one.revision)
        for one in outcomes
    ]
    assert len(published) == len(set(published))
    assert set(published) == brute_force(events, policy)
    assert {one.status for one in outcomes} >= {"labelled", "timeout", "unmatched"}


@pytest.mark.parametrize("seed", range(6))
def test_restarts_change_nothing(seed: int) -> None:
    policy, events = JoinPolicy("m", DELAY, None, True), schedule(seed)
    whole = repr(play(events, policy))
    assert repr(play(events, policy, random.Random(seed))) == whole


def test_a_second_prediction_of_a_request_is_refused() -> None:
    join, at = OutcomeJoin([JoinPolicy("m", DELAY)]), At(5, 0, 1)
    join.request("m", request("a", 1, 5), at)
    with pytest.raises(ValueError, match="expected one prediction per request, found a second one for a"):
        join.request("m", request("a", 2, 6), at)


def test_first_label_stays_and_further_ones_are_counted() -> None:
    join = OutcomeJoin([JoinPolicy("m", DELAY)])
    join.request("m", request("a", 1, 5), At(5, 0, 1))
    assert [one.status for one in join.label("m", "a", TimedLabel(1.0, 9), At(9, 0, 2))] == ["labelled"]
    assert join.label("m", "a", TimedLabel(0.0, 10), At(10, 0, 3)) == []
    assert join.ignored_labels == 1


def test_many_labels_of_one_unknown_request_cost_what_as_many_of_different_ones_do() -> None:
    """A publisher that sends one wrong id for ever: 30,000 labels took minutes when each was compared with all others."""

    def seconds(identities: list[str]) -> float:
        join, begun = OutcomeJoin([JoinPolicy("m", DELAY)]), process_time()
        for offset, identity in enumerate(identities):
            join.label("m", identity, TimedLabel(1.0, offset // 300), At(offset // 300, 0, offset))
        join.snapshot()
        unmatched = join.advance(At(10**6, 0, len(identities)))
        assert [one.request.request_id for one in unmatched] == identities
        assert set(join.snapshot().values()) == {None}
        return process_time() - begun

    different = seconds([f"r{i}" for i in range(30_000)])
    assert seconds(["same"] * 30_000) < 20 * different


def test_a_checkpoint_writes_what_changed_in_small_entries() -> None:
    join = OutcomeJoin([JoinPolicy("m", 10**9)])
    for offset in range(20_000):
        join.label("m", f"early{offset}", TimedLabel(1.0, 5), At(5, 0, offset))
    whole = join.snapshot()
    assert max(len(blob or b"") for blob in whole.values()) < 20_000
    join.label("m", "one more", TimedLabel(1.0, 5), At(5, 0, 20_000))
    assert len(join.snapshot()) == 1
