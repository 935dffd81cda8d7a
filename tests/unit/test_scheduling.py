"""Which worker is given which tests."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.scheduling import LongestFirst

TESTS = [f"tests/test_{number}.py::test" for number in range(12)]


class Worker:
    """Takes what it is given, and does it in turn."""

    def __init__(self, name: str) -> None:
        self.gateway, self.shutting_down = SimpleNamespace(id=name), False
        self.given: list[int] = []
        self.done = 0

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def given(root: Path, workers: int) -> list[list[int]]:
    """Run the tests, each worker one at a time by turns; returns what each was given, in its order."""
    (root / "tests").mkdir()
    for test in TESTS:
        (root / test.split("::")[0]).write_text("")
    config: Any = SimpleNamespace(option=SimpleNamespace(), rootpath=root, getvalue=lambda _: ["popen"] * workers)
    scheduling = LongestFirst(config)
    made: list[Any] = [Worker(f"gw{number}") for number in range(workers)]
    for worker in made:
        scheduling.add_node(worker)
        scheduling.add_node_collection(worker, TESTS)
    scheduling.schedule()
    while scheduling.has_pending:
        for worker in made:
            if worker.done < len(worker.given):
                worker.done += 1
                scheduling.mark_test_complete(worker, worker.given[worker.done - 1])
    return [worker.given for worker in made]


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
def test_every_test_is_run_once(tmp_path: Path, workers: int) -> None:
    assert sorted(index for indices in given(tmp_path, workers) for index in indices) == list(range(len(TESTS)))


@pytest.mark.parametrize(("workers", "from_the_end"), [(3, 1), (5, 1), (6, 2)])
def test_the_last_third_of_the_workers_begins_with_the_shortest_and_the_others_with_the_longest(
    tmp_path: Path, workers: int, from_the_end: int
) -> None:
    indices = given(tmp_path, workers)
    others, last = indices[: workers - from_the_end], indices[workers - from_the_end :]
    assert all(one == sorted(one, reverse=True) for one in last) and [one[0] for one in last] == [len(TESTS) - 1 - i for i in range(from_the_end)]
    assert all(one == sorted(one) for one in others) and [one[0] for one in others] == list(range(workers - from_the_end))


def test_two_workers_both_begin_with_the_longest(tmp_path: Path) -> None:
    assert [indices[:1] for indices in given(tmp_path, 2)] == [[0], [1]]
