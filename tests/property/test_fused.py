"""Fused or one by one, killed or not: the same records, and every vector names the true offset of its journal record."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.long_forms import examples, shortened
from tests.property.fused_stages import OUTPUTS, PLAN, ROOT, System
from tests.property.runner_tasks import DyingBroker, Killed
from tidemill.shared.log.records import Emission
from tidemill.shared.service.stage import FUSIBLE

pytestmark = pytest.mark.lasts(30)

COUNT = 60
PREDICTION = (ROOT / "schemas" / "prediction.avsc").read_text()
OFFSETS = ("_journal_offset", "journal_offset")


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory) -> System:
    """What the three stages write one by one."""
    system = System(tmp_path_factory.mktemp("separate"), COUNT)
    system.finish(*(system.runner((stage,)) for stage in FUSIBLE))
    return system


def without_offsets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in OFFSETS} for row in rows]


def without_ids(written: list[tuple[bytes | None, bytes | None]]) -> list[tuple[bytes | None, bytes]]:
    """Leave out the schema ids, which follow from who registers first."""
    return [(key, (value or b"")[5:]) for key, value in written]


def check_same(system: System, expected: System) -> None:
    """Compare everything but offsets; hold the offsets against the journal."""
    for topic in OUTPUTS:
        if topic not in (PLAN.topics.vectors, PLAN.topics.predictions):
            assert without_ids(system.written(topic)) == without_ids(expected.written(topic)), topic
    for topic, schema in ((PLAN.topics.vectors, PLAN.vector_schema), (PLAN.topics.predictions, PREDICTION)):
        assert system.read(topic).keys == expected.read(topic).keys
        assert without_offsets(system.rows(topic, schema)) == without_offsets(expected.rows(topic, schema)), topic
    journal = system.read(PLAN.topics.journal)
    at = dict(zip(journal.offsets.tolist(), journal.keys, strict=True))
    vectors = system.rows(PLAN.topics.vectors, PLAN.vector_schema)
    assert [at[vector["_journal_offset"]] for vector in vectors] == system.read(PLAN.topics.vectors).keys
    predictions = system.rows(PLAN.topics.predictions, PREDICTION)
    assert [row["journal_offset"] for row in predictions] == [vector["_journal_offset"] for vector in vectors]
    for stage in FUSIBLE:
        one, other = system.progress(stage), expected.progress(stage)
        assert one is not None and other is not None
        assert (one.outputs, one.covered_time, one.deployment_sequence, dict(one.versions)) == (
            other.outputs, other.covered_time, other.deployment_sequence, dict(other.versions),
        ), stage  # fmt: skip


def test_the_same_bytes_on_every_topic(tmp_path: Path, separate: System) -> None:
    fused = System(tmp_path, COUNT)
    fused.finish(fused.runner(FUSIBLE))
    for topic in OUTPUTS:
        assert fused.written(topic) == separate.written(topic), topic
        assert fused.read(topic).offsets.tolist() == separate.read(topic).offsets.tolist() or topic != PLAN.topics.journal
    check_same(fused, separate)


@pytest.mark.parametrize("first", shortened([1, 9], 1))
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_killed_at_every_call_once(tmp_path: Path, separate: System, after: bool, first: int) -> None:
    survived = 0
    for lives in range(first + after, 400, 16):
        fused = System(tmp_path / str(lives), COUNT)
        try:
            fused.finish(fused.runner(FUSIBLE, DyingBroker(fused.broker, lives, after)))
            survived = lives
            break
        except Killed:
            fused.finish(fused.runner(FUSIBLE))
        check_same(fused, separate)
    assert survived > 50


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(st.booleans(), st.integers(3, 60), st.booleans()), max_size=5), last=st.booleans(), batch=st.integers(1, 30))
def test_topologies_take_over_from_each_other_after_any_kill(
    tmp_path_factory: pytest.TempPathFactory, separate: System, moves: list[tuple[bool, int, bool]], last: bool, batch: int
) -> None:
    system = System(tmp_path_factory.mktemp("moves"), COUNT)

    def run(fused: bool, broker: Any) -> None:
        stages = [FUSIBLE] if fused else [(stage,) for stage in FUSIBLE]
        system.finish(*(system.runner(chosen, broker, max_batch=batch) for chosen in stages))

    for fused, lives, after in moves:
        try:
            run(fused, DyingBroker(system.broker, lives, after))
        except Killed:
            for stage in FUSIBLE:  # Their sessions end.
                for member in ("0", "fused-0"):
                    system.broker.expire_member(f"flights-{stage}", member)
    run(last, None)
    check_same(system, separate)


def test_what_somebody_else_writes_undoes_the_step_and_nothing_more(tmp_path: Path, separate: System) -> None:
    fused = System(tmp_path, COUNT)
    runner = fused.runner(FUSIBLE)
    while len(fused.read(PLAN.topics.vectors)) < 20:
        runner.step()
    zombie = fused.broker.transactional_sink("a-zombie")
    zombie.open()
    zombie.begin()
    for topic in (PLAN.topics.journal, PLAN.topics.vectors):
        zombie.produce(Emission(topic, 0, [b"z"], [b"z"]))
    zombie.abort()
    fused.finish(runner)
    check_same(fused, separate)


def test_a_record_that_crashes_features_is_quarantined_there(tmp_path: Path) -> None:
    one, other = System(tmp_path / "fused", COUNT, crash="f22"), System(tmp_path / "separate", COUNT, crash="f22")

    def run_until_done(system: System, *stages: tuple[str, ...]) -> int:
        crashes = 0
        for _ in range(20):
            try:
                system.finish(*(system.runner(chosen) for chosen in stages))
                return crashes
            except ZeroDivisionError:
                crashes += 1
        raise AssertionError("still crashing")

    assert run_until_done(other, *((stage,) for stage in FUSIBLE)) == 1
    assert run_until_done(one, FUSIBLE) == 1
    check = {topic: len(other.read(topic)) for topic in OUTPUTS}
    assert {topic: len(one.read(topic)) for topic in OUTPUTS} == check
    progress = one.progress("features")
    assert progress is not None and len(progress.quarantined) == 1
    ((_, _, offset),) = progress.quarantined
    journal = one.read(PLAN.topics.journal)
    assert journal.keys[journal.offsets.tolist().index(offset)] == b"f22"
    assert one.read(PLAN.topics.vectors).keys == other.read(PLAN.topics.vectors).keys
