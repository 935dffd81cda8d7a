"""Many records that a task does not survive: each is set aside, everything else is answered, and restores do not grow with their number."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tests.property.fragile_tasks import BOOM, HANG, OUTPUT, SEGFAULT, Fragile, LateThreaded, Marking, Paired, Threaded, made_in_child
from tests.property.runner_tasks import APP, codec, expected, output, records_of
from tests.property.test_crash_searches import Machine, check, column, filled, read_all
from tidemill.shared.runner import forked_walk
from tidemill.shared.runner.quarantine import Quarantined


def machine(folder: Path, values: list[list[bytes]], kind: type[Fragile], children: bool = True, **changes: Any) -> Machine:
    (folder / "state").mkdir()
    one = Machine(folder / "state", filled(values), len(values), trial_memory_bytes=1 << 30, **changes)
    if children:
        one.in_children = partial(made_in_child, kind, len(values), 10_000, {})
    one.most_steps = 100_000
    return one


def restores(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    marks = folder / "restores"
    monkeypatch.setenv("RESTORES", str(marks))
    return marks


@pytest.mark.lasts(5)
@pytest.mark.parametrize("poison", [BOOM, SEGFAULT], ids=["exceptions", "native faults"])
@pytest.mark.parametrize(
    ("length", "places"),
    [
        (400, [*range(7, 200, 8), *range(250, 290)]),
        pytest.param(20_000, range(3, 20_000, 10), marks=[pytest.mark.long, pytest.mark.lasts(200), pytest.mark.timeout(1_200)]),
    ],
    ids=["64 of 400", "2,000 of 20,000"],
)
def test_restores_do_not_grow_with_the_number_of_culprits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: bytes, length: int, places: Sequence[int]
) -> None:
    marks = restores(monkeypatch, tmp_path)
    values = [column(dict.fromkeys(places, poison), length)]
    one = machine(tmp_path, values, Marking)
    one.run(lambda partition: Marking(one.end, partition), read_all(one))
    check(one, values)
    # Nobody notes native faults for this process, so the first one may have been a kill.
    assert one.deaths == (1 if poison == BOOM else 2)
    assert len(marks.read_text().split()) <= 24, "before: four restores or three children for each culprit"


@pytest.mark.lasts(2)
def test_without_children_a_culprit_among_others_costs_two_restores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = restores(monkeypatch, tmp_path)
    places = [*range(7, 200, 8), *range(210, 226)]
    values = [column(dict.fromkeys(places, BOOM), 240)]
    one = machine(tmp_path, values, Marking, children=False)
    one.run(lambda partition: Marking(one.end, partition), read_all(one))
    check(one, values)
    assert one.deaths == 1 and len(marks.read_text().split()) <= 2.2 * len(places) + 8


@pytest.mark.lasts(10)
@pytest.mark.parametrize("kind", [Threaded, LateThreaded])
@pytest.mark.parametrize(("poison", "culprits"), [(BOOM, 24), (SEGFAULT, 8)], ids=["exceptions", "native faults"])
def test_a_culprit_of_a_task_with_threads_costs_two_restores_and_only_a_native_fault_costs_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Marking], poison: bytes, culprits: int
) -> None:
    marks = restores(monkeypatch, tmp_path)
    values = [column(dict.fromkeys([*range(7, 7 + 8 * (culprits // 2), 8), *range(210, 210 + culprits - culprits // 2)], poison), 240)]
    one = machine(tmp_path, values, kind)
    one.run(lambda partition: kind(one.end, partition), read_all(one))
    check(one, values)
    processes = set(marks.read_text().split())
    assert one.deaths == (1 if poison == BOOM else 2)
    assert len(marks.read_text().split()) <= 2.5 * culprits + 12, "before: four restores for each culprit, each in a process of its own"
    assert len(processes) <= (8 if poison == BOOM else 2.5 * culprits + 12)


@pytest.mark.lasts(5)
def test_of_pairs_the_second_is_set_aside_and_one_before_the_first_is_answered(tmp_path: Path) -> None:
    seconds = [2, 30, 31, 47, 60]
    values = [column({**dict.fromkeys(seconds, b"second"), 17: b"first"}, 80)]
    one = machine(tmp_path, values, Paired)
    one.run(lambda partition: Paired(one.end, partition), read_all(one))
    assert output(one.broker, OUTPUT) == expected(["abc"[place % 3] for place in range(80)], without=seconds[1:])
    letters = [codec("rejected").decode(value or b"") for value in output(one.broker, f"{APP}-rejected")]
    assert sorted(letter["source_offset"] for letter in letters) == seconds[1:]


@pytest.mark.lasts(5)
def test_records_that_hang_cost_one_process_and_their_time_out(tmp_path: Path) -> None:
    values = [column({5: HANG, 6: HANG, 19: HANG}, 30)]
    one = machine(tmp_path, values, Fragile, trial_timeout_s=0.5)
    one.run(lambda partition: Fragile(one.end, partition), read_all(one))
    check(one, values)
    assert one.deaths == 1


@pytest.mark.lasts(5)
@pytest.mark.parametrize(
    ("most", "length", "gap"),
    [(6, 240, 10), pytest.param(None, 20_000, 10, marks=[pytest.mark.long, pytest.mark.lasts(400), pytest.mark.timeout(1_800)])],
    ids=["24 of 240", "2,000 of 20,000"],
)
def test_what_a_task_with_threads_is_given_again_does_not_grow_with_the_square_of_its_culprits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int | None, length: int, gap: int
) -> None:
    marks = restores(monkeypatch, tmp_path)
    if most is not None:
        monkeypatch.setattr(forked_walk, "MOST_CULPRITS", most)
    values = [column(dict.fromkeys(range(3, length, gap), BOOM), length)]
    one = machine(tmp_path, values, Threaded)
    one.run(lambda partition: Threaded(one.end, partition), read_all(one))
    check(one, values)
    culprits = len(range(3, length, gap))
    handed = sum(map(int, (tmp_path / "restores.handed").read_text().split()))
    assert one.deaths == 1 and len(marks.read_text().split()) <= 2.5 * culprits + 12 + 3 * culprits / forked_walk.MOST_CULPRITS
    assert handed <= 2 * (forked_walk.MOST_CULPRITS + 2) * length, "before: each culprit cost all that was survived"


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, 1), st.integers(0, 30)), max_size=6), max_size=6), st.booleans())
def test_verdicts_that_are_added_make_the_same_set_as_all_at_once(added: list[list[tuple[str, int, int]]], undone: bool) -> None:
    union = Quarantined()
    for some in added:
        if undone:
            assert set(union | [("v", 0, 1)]) == {*union, ("v", 0, 1)}
        union = union | some
    whole = Quarantined(address for some in added for address in some)
    run = records_of("t", 1, [(offset, None, None) for offset in range(0, 30, 2)])
    assert list(union) == list(whole) and union.newest(3) == whole.newest(3) == frozenset(list(whole)[-3:])
    assert union.rows(run).tolist() == whole.rows(run).tolist() == [row for row, offset in enumerate(run.offsets) if ("t", 1, offset) in whole]
