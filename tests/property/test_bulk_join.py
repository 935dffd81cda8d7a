"""A batch joined column by column is the batch joined row by row, with everything that is unusual mixed in: the same outcomes, the same state."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tidemill.services.outcomes.domain import bulk_join
from tidemill.services.outcomes.domain.bulk_join import BulkJoin
from tidemill.services.outcomes.domain.join import JoinPolicy, Outcome, OutcomeJoin
from tidemill.services.outcomes.domain.join_batch import JoinBatch, ModelRows
from tidemill.services.outcomes.domain.request import At, LabelColumns, Pair, Request, RequestColumns, TimedLabel

DELAY = 60
POLICIES = (
    JoinPolicy("first", DELAY),
    JoinPolicy("last", DELAY, 0.0, last_correction_wins=True, numbers=2, classes=2),
    JoinPolicy("hidden", DELAY // 2, 1.0, numbers=2, has_control_share=True),
    JoinPolicy("learned", DELAY),
)
What = Request | tuple[int, Pair] | tuple[str, TimedLabel] | str


@dataclass
class Place:
    """One place of the merged order: a journal record, with what it tells each model, or what one model has of it."""

    at: At
    is_journal: bool = False
    told: list[tuple[str, What]] = field(default_factory=list)


class World:
    """Records of a journal: mostly requests that are answered and labelled in time, and everything else now and then."""

    def __init__(self, seed: int, odd: float) -> None:
        self.generator = random.Random(seed)
        self.odd = odd
        self.time, self.offset = self.generator.choice([0, 2**33]), 0
        self.asked: list[str] = []
        self.classes = 2

    def is_odd(self) -> bool:
        return self.generator.random() < self.odd

    def places(self, records: int) -> list[Place]:
        places = []
        for _ in range(records):
            self.time += self.generator.choice([0, 0, 1, 2, DELAY // 2 if self.is_odd() else 1, 3 * DELAY if self.is_odd() else 0])
            self.offset += self.generator.choice([1, 1, 2, 300])
            places += self.record(At(self.time, 0, self.offset))
        return places

    def record(self, at: At) -> list[Place]:
        journal = Place(at, is_journal=True)
        if self.generator.random() < 0.5:
            name = self.generator.choice(self.asked[-30:]) if self.asked and self.is_odd() and self.time > DELAY * 10 else f"r{len(self.asked)}"
            self.asked.append(name)
            return [journal, *self.answers(name, at)]
        if self.generator.random() < 0.9:
            for policy in POLICIES:
                if self.generator.random() < 0.8:
                    journal.told += [(policy.model, one) for one in self.labels(policy)]
        return [journal]

    def answers(self, name: str, at: At) -> Iterable[Place]:
        for policy in POLICIES:
            if self.generator.random() < 0.2:
                offset = at.offset - 1 if self.is_odd() else at.offset
                classes = policy.classes or (self.classes if policy.model == "learned" else 0)
                pair = Pair("v2", 4, self.generator.random(), 1, tuple(self.numbers(classes)), "{}" if self.is_odd() else "", 0.1, "canary", 0.5)
                yield Place(at, told=[(policy.model, (offset, pair))])
            if self.is_odd() and policy.model == "hidden":
                continue
            if policy.model == "learned" and self.is_odd():
                self.classes = min(5, self.classes + (self.generator.random() < 0.1))
            numbers = [1.0 if self.is_odd() else 0.4, float(self.is_odd())] if policy.has_control_share else self.numbers(policy.numbers)
            numbers = self.numbers(self.classes) if policy.model == "learned" else numbers
            served = str(self.generator.randrange(3)), 3, "champion"
            told = Request(name, at.offset, at.time_ms, at.time_ms - 5, self.generator.random(), 1, *served, tuple(numbers))
            yield Place(at, told=[(policy.model, told)])

    def numbers(self, count: int) -> list[float]:
        return [self.generator.random() for _ in range(count)]

    def labels(self, policy: JoinPolicy) -> Iterable[What]:
        if not self.asked:
            return
        name = self.asked[-self.generator.randrange(1, 1 + min(len(self.asked), 90 if self.is_odd() else 20))]
        if self.is_odd():
            name = f"r{len(self.asked) + self.generator.randrange(4)}"
        if self.is_odd():
            yield name
        else:
            label = (float("nan"), "red") if policy.model == "learned" else (float(self.generator.randrange(2)), "")
            yield name, TimedLabel(label[0], self.time - 7, label[1])


def batch_of(places: Sequence[Place]) -> JoinBatch:
    rows = {policy.model: ModelRows() for policy in POLICIES}
    requests: dict[str, list[tuple[int, Request]]] = {name: [] for name in rows}
    labels: dict[str, list[tuple[int, tuple[str, TimedLabel]]]] = {name: [] for name in rows}
    for number, place in enumerate(places):
        for model, what in place.told:
            if isinstance(what, Request):
                requests[model].append((number, what))
            elif isinstance(what, str):
                rows[model].invalid.append((number, what))
            elif isinstance(what[1], Pair):
                rows[model].pairs.append((number, (int(what[0]), what[1])))
            else:
                labels[model].append((number, (str(what[0]), what[1])))
    for model, own in rows.items():
        asked, told = requests[model], labels[model]
        if asked:
            name, offset, time, event, score, predicted, version, sequence, variant, numbers, _ = zip(*(one for _, one in asked), strict=True)
            offsets, times, events = (np.array(column, np.int64) for column in (offset, time, event))
            served = list(zip(version, sequence, variant, strict=True))
            columns = RequestColumns(name, offsets, times, events, np.array(score), np.array(predicted, np.int64), served, numbers)
            own.requests.append((np.array([number for number, _ in asked]), columns))
        if told:
            value, event, text = zip(*(label for _, (_, label) in told), strict=True)
            columns_of_labels = LabelColumns([name for _, (name, _) in told], np.array(value), np.array(event, np.int64), text)
            own.labels.append((np.array([number for number, _ in told]), columns_of_labels))
    coordinates = np.array([(place.at.time_ms, place.at.offset) for place in places], np.int64)
    journal = np.array([number for number, place in enumerate(places) if place.is_journal], np.int64)
    return JoinBatch(0, coordinates[:, 0], coordinates[:, 1], journal, {name: own.in_order() for name, own in rows.items()})


def one_by_one(join: OutcomeJoin, places: Sequence[Place]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for place in places:
        if place.is_journal:
            outcomes += join.advance(place.at)
        for model, what in sorted(place.told, key=lambda one: isinstance(one[1], str)):
            if isinstance(what, Request):
                outcomes += join.request(model, what, place.at)
            elif isinstance(what, str):
                join.invalid(model, what, place.at)
            elif isinstance(what[1], Pair):
                join.pair(model, int(what[0]), what[1])
            else:
                outcomes += join.label(model, str(what[0]), what[1], place.at)
    return outcomes


def played(seed: int, odd: float, least: int, records: int) -> Counter[str]:
    """Join batches both ways; the second way is restarted now and then. Returns the outcomes by status."""
    world = World(seed, odd)
    join, expected, blobs, seen = OutcomeJoin(POLICIES), OutcomeJoin(POLICIES), dict[str, bytes | None](), Counter[str]()
    while records > 0:
        count = world.generator.choice([1, 5, 40, 200])
        records -= count
        places = world.places(count)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bulk_join, "LEAST_ROWS", least)
            try:
                outcomes = repr(wanted := one_by_one(expected, places))
            except ValueError as twice:
                with pytest.raises(ValueError, match="a second one"):
                    BulkJoin(join).absorb(batch_of(places))
                assert "a second one" in str(twice)
                return seen
            assert repr(BulkJoin(join).absorb(batch_of(places))) == outcomes
        seen.update(one.status for one in wanted)
        assert join.ignored_labels == expected.ignored_labels
        changed = expected.snapshot()
        assert join.snapshot() == changed
        blobs |= changed
        if world.generator.random() < 0.3:
            ignored, join = join.ignored_labels, OutcomeJoin(POLICIES)
            join.load({key: blob for key, blob in blobs.items() if blob is not None})
            join.ignored_labels = ignored
    return seen


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.003, 0.02, 0.2]), st.sampled_from([1, 4, 24]))
def test_columns_are_rows(seed: int, odd: float, least: int) -> None:
    played(seed, odd, least, 400)


def test_everything_happens() -> None:
    seen = sum((played(seed, 0.02, 1, 1_000) for seed in range(3)), Counter[str]())
    assert min(seen[status] for status in ("labelled", "corrected", "timeout", "unmatched")) > 10
