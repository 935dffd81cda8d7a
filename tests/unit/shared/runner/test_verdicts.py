"""What a death without an exception leads to, and which steps are past a crash; whole searches are in `tests/property/test_crash_searches.py`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from tests.property.runner_tasks import records_of
from tests.unit.shared.runner.runners import HERE, INPUT
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.crash_log import CrashLog, Span
from tidemill.shared.runner.crash_verdicts import CrashVerdict, CrashVerdicts
from tidemill.shared.runner.death_note import Death
from tidemill.shared.runner.death_verdicts import DeathVerdicts
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.running_task import RunningTask

NAME = f"{INPUT}:0"


class Desk:
    """The verdicts of one stage, and one task of it that stands before offset 5."""

    def __init__(self, folder: Path, children: bool = False) -> None:
        log = CrashLog(folder / "crash.json")
        self.verdicts = CrashVerdicts(log, 3)
        if children:
            self.verdicts.use_children()
        self.deaths = DeathVerdicts(log, 3, self.verdicts)
        self.crashes = log

    def die(self, records: int, *, cause: str | None = None, follows: bool = False, held: Mapping[str, int] | None = None, sequence: int = 4) -> None:
        step = Span(records, {NAME: 5}, {NAME: 4 + records}) if records else Span(0, {}, {})
        self.deaths.count(task(), Death(0, 0, sequence, False, step, dict(held or {}), cause), follows, lambda place, at: run(at, 1, place))


def task(offset: int = 5) -> RunningTask:
    nobody: Any = None
    return RunningTask(0, nobody, Progress("counting", 0, sequence=4, input_offsets={HERE: offset}), nobody, nobody, cast(Any, None), "i")


def run(begin: int, count: int, place: TopicPartition = HERE) -> Records:
    return records_of(place.topic, place.partition, [(begin + i, b"k", b"v") for i in range(count)])


def test_a_death_in_another_step_or_while_restoring_is_not_the_records(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.die(1, sequence=3)
    desk.deaths.count(task(), Death(0, 0, 4, True, Span(1, {NAME: 5}, {NAME: 5}), {}), False, lambda *_: None)
    assert not desk.verdicts.any


def test_a_record_is_condemned_by_two_deaths_in_which_it_was_alone_in_a_search(tmp_path: Path) -> None:
    desk, seen = Desk(tmp_path), []
    for _ in range(4):
        desk.die(1)
        seen.append((desk.verdicts.searching(0), desk.verdicts.owed.addresses(0)))
    assert seen == [(False, []), (True, []), (True, []), (True, [(INPUT, 0, 5)])]


def test_many_records_are_searched_in_smaller_steps_from_the_second_death_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.die(640)
    assert not desk.verdicts.searching(0)
    desk.die(640)
    assert desk.verdicts.searching(0) and desk.verdicts.limit(0, 1_000) == 640 // 32


@pytest.mark.parametrize("held", [{}, {NAME: 4}])
def test_a_task_that_holds_records_back_or_has_no_input_is_tried(tmp_path: Path, held: dict[str, int]) -> None:
    desk = Desk(tmp_path)
    for _ in range(2):
        desk.die(1 if held else 0, held=held)
    crash = desk.verdicts.suspected(0)
    assert crash is not None and dict(crash.held) == held and dict(crash.step) == ({NAME: 5} if held else {})


def test_a_later_stage_that_dies_without_input_is_called_with_input_only(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for _ in range(2):
        desk.die(0, follows=True)
    assert desk.verdicts.muted(0) and not desk.verdicts.searching(0)


@pytest.mark.parametrize(("cause", "deaths"), [("a hang", 1), (None, 2)])
def test_children_try_at_once_what_surely_was_no_kill_and_a_death_behind_them_is_looked_for_without(
    tmp_path: Path, cause: str | None, deaths: int
) -> None:
    desk, tried = Desk(tmp_path, children=True), []
    for _ in range(deaths):
        desk.die(64, cause=cause)
        tried.append(desk.verdicts.tries_in_children(0))
    assert tried == [False] * (deaths - 1) + [True]
    desk.die(64, cause=cause)
    assert desk.verdicts.searching(0) and not desk.verdicts.tries_in_children(0)


def test_a_crash_is_past_once_a_commit_has_moved_over_all_its_records(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.verdicts.judge(task(), [run(5, 3)], ValueError("no"), follows=False) is CrashVerdict.END
    for records, at, committed in [(run(5, 2), 7, True), (run(7, 1), 5, True), (run(7, 1), 8, False)]:
        desk.verdicts.passed(task(at), [records], committed)
        assert desk.verdicts.any, (at, committed)
    desk.verdicts.passed(task(8), [run(7, 1)], committed=True)
    assert not desk.verdicts.any


def test_a_task_that_crashes_without_input_is_past_it_when_it_survives_a_step_without(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.verdicts.judge(task(), [], ValueError("no"), follows=False)
    desk.verdicts.mute(0)
    desk.verdicts.passed(task(), [run(5, 1)], committed=True)
    assert desk.verdicts.muted(0)
    desk.verdicts.passed(task(), [], committed=False)
    assert not desk.verdicts.any


def test_what_is_condemned_is_owed_until_a_commit(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.verdicts.condemn(0, run(5, 1), "why")
    desk.verdicts.passed(task(), [], committed=False)
    assert desk.verdicts.owed.addresses(0) == [(INPUT, 0, 5)]
    desk.verdicts.passed(task(), [], committed=True)
    assert not desk.verdicts.owed.addresses(0)


@pytest.mark.parametrize(("children", "size"), [(True, 1_000), (False, 1)])
def test_behind_a_condemned_record_children_go_on_with_all_and_the_task_itself_with_one(tmp_path: Path, children: bool, size: int) -> None:
    desk = Desk(tmp_path, children)
    for _ in range(2):
        desk.die(64)
    desk.verdicts.survives(0, 7)
    desk.verdicts.condemn(0, run(5, 1), "why")
    assert desk.verdicts.limit(0, 1_000) == size
