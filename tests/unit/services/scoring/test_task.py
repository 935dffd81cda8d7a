from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.journals import random_journal
from tests.models import artifact
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.services.scoring.task import ScoringTask
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.signature import Column
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.task import StepContext

ROOT = Path(__file__).parents[4]
CONTEXT = StepContext(0)
COLUMNS = tuple(Column(name=name, type="double") for name in ("distance", "hour", "origin_late__mean_3h"))


def schema(name: str) -> str:
    return (ROOT / "schemas" / f"{name}.avsc").read_text()


class Stage:
    """Encoded inputs of scoring, and its task."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.registry = MemorySchemaRegistry()
        self.store = ArtifactStore(str(folder))
        vectors = FeaturesCore(plan).process(random_journal(plan, 200, np.random.default_rng(1)))
        self.count = vectors.num_rows
        self.vectors = ColumnEncoder(self.registry, "v", plan.vector_schema).encode(vectors)
        self.last_time = int(vectors.column("_journal_time").view(pa.int64())[-1].as_py())

    def task(self) -> ScoringTask:
        return ScoringTask(self.plan, self.registry, self.store, 0)

    def records(self, topic: str, values: Sequence[bytes], first: int = 0) -> Records:
        n = len(values)
        return Records(topic, 0, np.arange(first, first + n), np.zeros(n, np.int64), [f"{topic}{first + i}".encode() for i in range(n)], values)

    def deployment(self, sequence: int, event: str, version: str, address: str) -> Records:
        record: dict[str, Any] = {
            "sequence": sequence, "parent": sequence - 1, "decision_id": "d", "model": "late_arrival", "event": event, "version": version,
            "journal_partition": 0, "journal_offset": 0, "journal_time": 0, "artifact_sha256": address, "artifact_uri": "", "share": 1.0,
            "threshold": 0.4, "figures": {}, "details": {}, "reason": "",
        }  # fmt: skip
        return self.records("flights-deployments", [RecordCodec(self.registry, "d", schema("deployment")).encode(record)], sequence)

    def revision(self, sequence: int, version: str, lower: float, upper: float) -> Records:
        place = {"journal_partition": 0, "journal_offset": 0, "journal_time": 0}
        record = {"model": "late_arrival", **place, "sequence": sequence, "model_version": version, "lower_offset": lower, "upper_offset": upper}
        codec = RecordCodec(self.registry, "r", schema("revision"))
        return self.records("flights-revisions", [codec.encode({**record, "labels": 20})], sequence)

    def progress(self, vectors: int) -> Records:
        covered = Progress("features", 0, covered_offset=10_000, covered_time=self.last_time + 5, outputs={"flights-vectors": vectors})
        return self.records("flights-features-progress", [covered.encode(RecordCodec(self.registry, "p", schema("progress")))], 3)

    def answers(self, step: Any) -> list[dict[str, Any]]:
        values = [value for emission in step.emissions for value in emission.values]
        rows: list[dict[str, Any]] = ColumnDecoder(self.registry, schema("prediction")).decode(values).batch.to_pylist()
        return rows


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(load_plan(ROOT / "examples" / "flights"), tmp_path)


def test_models_switch_between_steps_and_predictions_say_so(stage: Stage) -> None:
    task = stage.task()
    first = stage.answers(task.process([stage.records("flights-vectors", stage.vectors[:10])], CONTEXT))
    address = stage.store.put(artifact("lightgbm", COLUMNS)[0].to_bytes())
    switched = task.process([stage.deployment(0, "promoted", "v1", address)], CONTEXT)
    assert switched.deployment_sequence == 0 and switched.positions[TopicPartition("flights-deployments", 0)] == 1
    second = stage.answers(task.process([stage.records("flights-vectors", stage.vectors[10:20], 10)], CONTEXT))
    assert {(row["reason"], row["model_version"], row["deployment_sequence"]) for row in first} == {("no_model", "default", -1)}
    assert {(row["reason"], row["model_version"], row["deployment_sequence"]) for row in second} == {(None, "v1", 0)}


def test_a_model_that_does_not_load_costs_no_answer(stage: Stage) -> None:
    task = stage.task()
    task.process([stage.deployment(0, "promoted", "v1", "00" * 32)], CONTEXT)
    rows = stage.answers(task.process([stage.records("flights-vectors", stage.vectors)], CONTEXT))
    assert len(rows) == stage.count
    assert {(row["reason"], row["score"], row["variant"]) for row in rows} == {("model_failed", 0.24, "default")}


def test_coverage_follows_features_once_all_its_vectors_are_answered(stage: Stage) -> None:
    task = stage.task()
    behind = task.process([stage.records("flights-vectors", stage.vectors[:5]), stage.progress(stage.count)], CONTEXT)
    assert behind.coverage.time_ms <= stage.last_time
    done = task.process([stage.records("flights-vectors", stage.vectors[5:], 5)], CONTEXT)
    assert done.coverage.time_ms == stage.last_time + 5
    assert done.coverage.offset == 10_000


def test_a_restart_serves_the_same_model_and_repeats_no_answer(stage: Stage) -> None:
    address = stage.store.put(artifact("lightgbm", COLUMNS)[0].to_bytes())
    promoted = stage.deployment(0, "promoted", "v1", address)
    task = stage.task()
    task.process([promoted], CONTEXT)
    step = task.process([stage.records("flights-vectors", stage.vectors[:20])], CONTEXT)
    checkpoint = task.checkpoint(1_000)
    step = task.process([stage.records("flights-vectors", stage.vectors[20:30], 20)], CONTEXT)
    again = stage.task()
    again.restore(checkpoint.entries)
    again.resume(step.positions, {}, step.coverage.offset, step.coverage.time_ms)
    begin = checkpoint.marker[TopicPartition("flights-vectors", 0)]
    assert checkpoint.marker[TopicPartition("flights-deployments", 0)] == 0
    again.replay([promoted, stage.records("flights-vectors", stage.vectors[begin:30], begin)])
    rest = [stage.records("flights-vectors", stage.vectors[30:], 30), stage.progress(stage.count)]
    restarted, straight = again.process(rest, CONTEXT), task.process(rest, CONTEXT)
    assert stage.answers(restarted) == stage.answers(straight)
    assert restarted.positions == straight.positions and restarted.coverage == straight.coverage


def test_a_restart_keeps_the_newest_revision_and_reads_only_what_came_after_it(stage: Stage) -> None:
    """Revisions of before the checkpoint are not read again; one that comes first when the task starts anew is taken when its model is loaded."""
    address = stage.store.put(artifact("lightgbm", COLUMNS)[0].to_bytes())
    promoted, place = stage.deployment(0, "promoted", "v1", address), TopicPartition("flights-revisions", 0)
    task = stage.task()
    task.process([promoted, stage.revision(0, "v1", -1.0, 1.0), stage.revision(1, "v1", -2.0, 2.0)], CONTEXT)
    step = task.process([stage.records("flights-vectors", stage.vectors[:20])], CONTEXT)
    checkpoint = task.checkpoint(1_000)
    assert step.positions[place] == checkpoint.marker[place] == 2
    restarted = stage.task()
    restarted.restore(checkpoint.entries)
    restarted.replay([promoted])
    restarted.resume(step.positions, {}, step.coverage.offset, step.coverage.time_ms)
    (again,) = stage.answers(restarted.process([stage.records("flights-vectors", stage.vectors[20:21], 20)], CONTEXT))
    assert (again["revision"], again["lower"], again["upper"]) == (1, again["score"] - 2.0, again["score"] + 2.0)
    assert not any(entry.key == b"revisions" for entry in restarted.checkpoint(1_000).entries), "nothing is new"
    (other,) = stage.answers(
        restarted.process([stage.revision(2, "v2", -9.0, 9.0), stage.records("flights-vectors", stage.vectors[21:22], 21)], CONTEXT)
    )
    assert other["revision"] == 1, "that of another version changes nothing"
    fresh = stage.task()
    fresh.process([stage.revision(1, "v1", -2.0, 2.0)], CONTEXT)
    (late,) = stage.answers(fresh.process([promoted, stage.records("flights-vectors", stage.vectors[:1])], CONTEXT))
    assert late["revision"] == 1


def test_a_model_for_features_the_application_no_longer_has_answers_with_the_default(stage: Stage) -> None:
    made, _, _ = artifact("lightgbm", (*COLUMNS[:2], Column(name="gone__mean_3h", type="double")))
    task = stage.task()
    step = task.process(
        [stage.deployment(0, "promoted", "v1", stage.store.put(made.to_bytes())), stage.records("flights-vectors", stage.vectors)], CONTEXT
    )
    answers = ColumnDecoder(stage.registry, schema("prediction")).decode(step.emissions[0].values).batch
    assert answers.num_rows == stage.count
    assert set(answers.column("reason").to_pylist()) == {"model_failed"} and set(answers.column("deployment_sequence").to_pylist()) == {0}


def test_a_store_that_does_not_answer_is_asked_again(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "ab" / ("ab" + 62 * "0")).mkdir(parents=True)  # no file can be read there
    with pytest.raises(TransientError, match="ab00"):
        stage.task().process([stage.deployment(0, "promoted", "v1", "ab" + 62 * "0")], CONTEXT)


def test_a_quarantined_vector_does_not_hold_the_coverage_up(stage: Stage) -> None:
    task = stage.task()
    task.skipped("flights-vectors", 0, np.array([0]))
    step = task.process([stage.records("flights-vectors", stage.vectors[1:], 1), stage.progress(stage.count)], CONTEXT)
    assert step.coverage.time_ms == stage.last_time + 5


@pytest.mark.parametrize("trouble", ["away", "empty", "the clock steps back"])
def test_a_model_that_cannot_be_loaded_is_tried_again_ever_less_often(stage: Stage, tmp_path: Path, trouble: str) -> None:
    content = artifact("lightgbm", COLUMNS)[0].to_bytes()
    address = stage.store.put(content)
    file = tmp_path / address[:2] / address
    file.unlink()
    if trouble == "empty":
        file.write_bytes(b"")
    task = stage.task()
    task.process([stage.deployment(0, "promoted", "v1", address)], StepContext(0))
    times = [0, 999, 1_000, 2_999, 3_000, 6_000]
    reasons = []
    for turn, now_ms in enumerate(times):
        if now_ms == 3_000:
            assert stage.store.put(content) == address, "putting it again repairs it"
        context = StepContext(10**12 - turn * 3_600_000, steady_ms=now_ms) if trouble == "the clock steps back" else StepContext(now_ms)
        rows = stage.answers(task.process([stage.records("flights-vectors", stage.vectors[turn : turn + 1], turn)], context))
        reasons += [row["reason"] for row in rows]
    assert reasons == ["model_failed"] * 4 + [None, None]
