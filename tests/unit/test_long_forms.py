"""What the short form leaves out, and that the long one has all of it."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest, long_forms
from tests.long_forms import examples, shortened


def long_ones(cases: list[Any]) -> list[tuple[Any, ...]]:
    return [case.values for case in cases if hasattr(case, "marks") and [mark.name for mark in case.marks] == ["long"]]


def test_the_cases_after_the_first_ones_are_long() -> None:
    assert list(shortened([3], 1)) == [3]
    mixed = list(shortened([3, 4, (5, 6)], 1))
    assert mixed[0] == 3 and long_ones(mixed) == [(4,), (5, 6)]


def test_the_long_form_has_all_examples_and_the_short_one_a_third_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_long, expected in ((False, [20, 5, 4]), (True, [60, 8, 4])):
        monkeypatch.setattr(long_forms, "IS_LONG", is_long)
        assert [examples(count) for count in (60, 8, 4)] == expected


@pytest.mark.parametrize("is_long", [False, True])
def test_long_cases_run_where_they_are_asked_for_and_are_counted_where_not(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, is_long: bool
) -> None:
    def item(name: str, long: bool) -> pytest.Item:
        made = SimpleNamespace(name=name, nodeid=name, config=request.config, path=request.path)
        made.get_closest_marker = lambda mark: SimpleNamespace(args=(1,)) if mark == "lasts" or (mark == "long" and long) else None
        made.add_marker = lambda *_, **__: None
        return made  # type: ignore[return-value]  # what the hook asks of an item

    left_out: list[str] = []
    config = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: left_out.extend(one.name for one in items)))
    monkeypatch.setattr(conftest, "IS_LONG", is_long)
    items = [item("short", False), item("long", True)]
    conftest.pytest_collection_modifyitems(config, items)  # type: ignore[arg-type]  # what the hook asks of a configuration
    assert [one.name for one in items] == (["short", "long"] if is_long else ["short"])
    assert left_out == ([] if is_long else ["long"])


def test_of_two_tests_with_one_name_one_would_run_in_parallel_so_they_are_refused() -> None:
    two: list[Any] = [SimpleNamespace(nodeid=name) for name in ("tests/a.py::test", "tests/b.py::test", "tests/a.py::test")]
    with pytest.raises(pytest.UsageError, match=r"called tests/a\.py::test:"):
        conftest.expect_names_of_their_own(two)
    conftest.expect_names_of_their_own(two[:2])
