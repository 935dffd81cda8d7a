"""A walk by scouts: all culprits of a stretch, each for a few forks, whatever they look like. The scouts here are a list of rows."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tidemill.shared.runner.child_watch import Ending
from tidemill.shared.runner.forked_walk import MOST_CULPRITS, SHARE, ForkedWalk


@dataclass
class ListedScouts:
    """Scouts whose task dies of some rows, or of a row that comes after another one; counts what they do."""

    poison: set[int]
    pairs: dict[int, int] = field(default_factory=dict)
    holds: bool = False
    base: list[int] = field(default_factory=list)
    condemned: dict[int, str] = field(default_factory=dict)
    stood: int = 0
    given: int = 0
    forks = True

    def stand(self) -> None:
        self.scout, self.owed = list(self.base), set(self.condemned)
        self.stood += 1

    def give(self, begin: int, end: int, silence_s: float | None) -> Ending:
        assert begin >= len(self.scout), "no row is given twice"
        assert begin == len(self.scout), "no row is left out"
        for row in range(begin, end):
            self.given += 1
            if row not in self.owed and (row in self.poison or self.pairs.get(row) in self.scout):
                return Ending(0, f"row {row}", self.holds)
            self.scout.append(-1 if row in self.owed else row)
        return Ending(0, None, self.holds, 0.001)

    def advance(self) -> None:
        self.base = self.scout

    def condemn(self, row: int, why: str) -> None:
        self.condemned[row] = why


class LoneScouts(ListedScouts):
    """Has threads: the base goes ahead itself, and is given again what was survived once it has died."""

    forks = False

    def stand(self) -> None:
        super().stand()
        self.given += len(self.base)


def walk(scouts: ListedScouts, total: int) -> ForkedWalk:
    scouts.stand()
    return ForkedWalk(scouts, total)  # type: ignore[arg-type]  # the same methods


@settings(max_examples=examples(150), deadline=None)
@given(st.integers(1, 400).flatmap(lambda total: st.tuples(st.just(total), st.sets(st.integers(0, total - 1)))))
def test_all_culprits_are_found_and_nothing_else(case: tuple[int, set[int]]) -> None:
    total, poison = case
    scouts = ListedScouts(poison)
    found = walk(scouts, total).find()
    assert [row for row, _ in found.culprits] == sorted(poison) and found.stopped_at < 0
    assert all(how == f"row {row}" for row, how in found.culprits)


@pytest.mark.parametrize("layout", ["spread", "in a row", "one"])
def test_a_culprit_costs_a_few_forks_and_each_record_is_given_a_few_times(layout: str) -> None:
    for total in (1_000, 4_000):
        poison = {"spread": set(range(3, total, 10)), "in a row": set(range(total // 4, total // 2)), "one": {total // 2}}[layout]
        scouts = ListedScouts(poison)
        assert len(walk(scouts, total).find().culprits) == len(poison)
        assert scouts.stood <= 5 * len(poison) + 2 * total / SHARE, (total, scouts.stood)
        assert scouts.given <= 12 * total, (total, scouts.given)


def test_of_a_pair_the_second_is_the_culprit_while_the_first_stands_before_it() -> None:
    scouts = ListedScouts(set(), pairs={70: 5, 71: 70, 90: 200})
    assert [row for row, _ in walk(scouts, 100).find().culprits] == [70], "row 71 does not follow a row that was passed over"


def test_steps_in_which_nothing_dies_are_all_of_a_32nd() -> None:
    found = walk(ListedScouts(set()), 640).find()
    assert (found.culprits, found.size) == ([], 20)


def test_a_task_that_holds_records_back_is_not_told_which_one_it_was() -> None:
    found = walk(ListedScouts({50}, holds=True), 100).find()
    assert (found.culprits, found.stopped_at, found.alone) == ([], 50, True)


@pytest.mark.parametrize("gap", [1, 3, 10, 80])
def test_without_forks_what_is_given_again_grows_with_the_number_of_culprits_and_not_with_its_square(gap: int) -> None:
    given = {}
    for total in (2_000, 8_000):
        begin, rows, given[total] = 0, [], 0
        while begin < total:
            # What is known of the beginning is committed: the next walk begins behind it.
            scouts = LoneScouts({row - begin for row in range(gap - 1, total, gap) if row >= begin})
            found = walk(scouts, total - begin).find()
            given[total] += scouts.given
            rows += [begin + row for row, _ in found.culprits]
            begin = begin + found.cut_at if found.cut_at >= 0 else total
        assert rows == list(range(gap - 1, total, gap))
    assert given[8_000] <= 5 * given[2_000], "before: fifteen times as many"
    assert given[8_000] <= 4 * MOST_CULPRITS * 8_000
