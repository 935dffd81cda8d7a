"""Scoring while a challenger is tried: who answers, what both said, and what a challenger that cannot be loaded costs (nothing)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import artifact
from tests.unit.services.scoring.test_latency import limited
from tests.unit.services.scoring.test_task import COLUMNS, CONTEXT, ROOT, Stage, schema
from tests.unit.shared.models.test_assignment import hash_of
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.log.records import Records, Step, TopicPartition
from tidemill.shared.runner.task import StepContext

SHADOWS = "flights-shadow-scores"


class Challenged(Stage):
    """A champion and a challenger of other trees in the store, and the events of a trial."""

    def __init__(self, folder: Path) -> None:
        super().__init__(load_plan(ROOT / "examples" / "flights"), folder)
        self.champion = self.store.put(artifact("lightgbm", COLUMNS)[0].to_bytes())
        self.challenger = self.store.put(artifact("logistic_regression", COLUMNS, "v2")[0].to_bytes())

    def event(self, sequence: int, event: str, version: str, address: str, share: float = 0.0) -> Records:
        record: dict[str, Any] = {
            "sequence": sequence, "parent": sequence - 1, "decision_id": "d", "model": "late_arrival", "event": event, "version": version,
            "journal_partition": 0, "journal_offset": 0, "journal_time": 0, "artifact_sha256": address, "artifact_uri": "", "share": share,
            "threshold": 0.4, "figures": {}, "details": {}, "reason": "",
        }  # fmt: skip
        return self.records("flights-deployments", [RecordCodec(self.registry, "d", schema("deployment")).encode(record)], sequence)

    def promoted(self) -> Records:
        return self.event(0, "promoted", "v1", self.champion)

    def asked(self, begin: int, end: int) -> Records:
        return self.records("flights-vectors", self.vectors[begin:end], begin)

    def said(self, step: Step) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        by_topic: dict[str, list[dict[str, Any]]] = {"flights-predictions": [], SHADOWS: []}
        for emission in step.emissions:
            name = "prediction" if emission.topic == "flights-predictions" else "shadow-score"
            rows = ColumnDecoder(self.registry, schema(name)).decode(emission.values).batch.to_pylist()
            by_topic[emission.topic] += [{**row, "_key": key} for row, key in zip(rows, emission.keys, strict=True)]
        return by_topic["flights-predictions"], by_topic[SHADOWS]


@pytest.fixture
def stage(tmp_path: Path) -> Challenged:
    return Challenged(tmp_path)


def test_a_trial_goes_through_its_stages_and_every_request_is_answered_once_by_whom_its_hash_says(stage: Challenged) -> None:
    task = stage.task()
    task.process([stage.promoted()], CONTEXT)
    answers, shadows = stage.said(task.process([stage.asked(0, 10)], CONTEXT))
    assert len(answers) == 10 and not shadows
    task.process([stage.event(1, "shadow", "v2", stage.challenger)], CONTEXT)
    answers, shadows = stage.said(task.process([stage.asked(10, 20)], CONTEXT))
    assert {(row["variant"], row["deployment_sequence"]) for row in answers} == {("champion", 0)}
    assert [row["champion_score"] for row in shadows] == [row["score"] for row in answers]
    assert {(row["challenger_version"], row["challenger_sequence"]) for row in shadows} == {("v2", 1)}
    step = task.process([stage.event(2, "canary", "v2", stage.challenger, 0.4)], CONTEXT)
    assert step.deployment_sequence == 2
    answers, shadows = stage.said(task.process([stage.asked(20, stage.count - 8)], CONTEXT))
    assert [(row["request_id"], row["_key"]) for row in shadows] == [(row["request_id"], row["_key"]) for row in answers]
    for answer, shadow in zip(answers, shadows, strict=True):
        drawn = (hash_of(answer["_key"], stage.challenger) >> 11) / 2**53 < 0.4
        expected = ("canary", "v2", 2, shadow["challenger_score"]) if drawn else ("champion", "v1", 0, shadow["champion_score"])
        assert (answer["variant"], answer["model_version"], answer["deployment_sequence"], answer["score"]) == expected
        assert shadow["variant"] == answer["variant"]
        assert shadow["slices"] is not None
    assert {row["variant"] for row in answers} == {"champion", "canary"}
    task.process([stage.event(3, "stepped_back", "v2", stage.challenger)], CONTEXT)
    answers, shadows = stage.said(task.process([stage.asked(stage.count - 8, stage.count)], CONTEXT))
    assert {row["variant"] for row in answers} == {"champion"} and not shadows


@pytest.mark.parametrize("trouble", ["missing", "away"])
def test_a_challenger_that_cannot_be_loaded_costs_no_answer_and_is_tried_again(stage: Challenged, tmp_path: Path, trouble: str) -> None:
    file = tmp_path / stage.challenger[:2] / stage.challenger
    content = file.read_bytes()
    file.unlink()
    if trouble == "away":
        file.mkdir()  # nothing can be read there: the store does not answer
    task = stage.task()
    task.process([stage.promoted(), stage.event(1, "canary", "v2", stage.challenger, 1.0)], StepContext(0))
    answers, shadows = stage.said(task.process([stage.asked(0, 10)], StepContext(0)))
    assert {(row["variant"], row["reason"]) for row in answers} == {("champion", None)}
    assert {(row["challenger_score"], row["challenger_reason"], row["variant"]) for row in shadows} == {(None, "model_failed", "champion")}
    if trouble == "away":
        file.rmdir()
    file.write_bytes(content)
    answers, _ = stage.said(task.process([stage.asked(10, 20)], StepContext(999)))
    assert {row["variant"] for row in answers} == {"champion"}
    answers, shadows = stage.said(task.process([stage.asked(20, 30)], StepContext(1_000)))
    assert {row["variant"] for row in answers} == {"canary"}
    assert {row["challenger_reason"] for row in shadows} == {None}


def test_a_champion_that_cannot_be_loaded_is_not_stood_in_for_by_a_challenger_beyond_its_share(stage: Challenged) -> None:
    task = stage.task()
    task.process([stage.event(0, "promoted", "v1", "00" * 32), stage.event(1, "canary", "v2", stage.challenger, 0.4)], CONTEXT)
    answers, shadows = stage.said(task.process([stage.asked(0, stage.count)], CONTEXT))
    assert {(row["variant"], row["reason"], row["model_version"]) for row in answers} == {
        ("default", "model_failed", "default"), ("canary", None, "v2"),
    }  # fmt: skip
    assert {(row["champion_score"], row["champion_reason"]) for row in shadows} == {(None, "model_failed")}


def test_requests_that_have_waited_too_long_are_scored_by_nobody(stage: Challenged) -> None:
    stage.plan = limited(stage.plan, {"late_arrival": 2_000})
    task = stage.task()
    task.process([stage.promoted(), stage.event(1, "canary", "v2", stage.challenger, 1.0)], StepContext(0))
    answers, shadows = stage.said(task.process([stage.asked(0, 5)], StepContext(stage.last_time + 20_000)))
    assert {(row["variant"], row["reason"]) for row in answers} == {("default", "latency")}
    assert {(row["champion_reason"], row["challenger_reason"]) for row in shadows} == {("latency", "latency")}


def test_shadow_scores_have_the_keys_of_their_requests_beside_a_model_without_a_challenger(stage: Challenged) -> None:
    model = stage.plan.models["late_arrival"]
    stage.plan = replace(stage.plan, models={"other": replace(model, name="other"), "late_arrival": model})
    task = stage.task()
    task.process([stage.promoted(), stage.event(1, "canary", "v2", stage.challenger, 0.4)], CONTEXT)
    answers, shadows = stage.said(task.process([stage.asked(0, 20)], CONTEXT))
    assert [row["model"] for row in answers[:4]] == ["other", "late_arrival"] * 2
    assert [(row["request_id"], row["_key"]) for row in shadows] == [(row["request_id"], row["_key"]) for row in answers[1::2]]


def test_a_restart_in_a_trial_is_no_restart(stage: Challenged) -> None:
    events = [stage.promoted(), stage.event(1, "shadow", "v2", stage.challenger), stage.event(2, "canary", "v2", stage.challenger, 0.4)]
    task = stage.task()
    task.process(events, CONTEXT)
    task.process([stage.asked(0, 20)], CONTEXT)
    checkpoint = task.checkpoint(1_000)
    step = task.process([stage.asked(20, 30)], CONTEXT)
    again = stage.task()
    again.restore(checkpoint.entries)
    again.resume(step.positions, {}, step.coverage.offset, step.coverage.time_ms)
    begin = checkpoint.marker[TopicPartition("flights-vectors", 0)]
    again.replay([*events, stage.asked(begin, 30)])
    rest = [stage.asked(30, stage.count), stage.progress(stage.count)]
    restarted, straight = again.process(rest, CONTEXT), task.process(rest, CONTEXT)
    assert stage.said(restarted) == stage.said(straight)
    assert np.unique([row["variant"] for row in stage.said(restarted)[0]]).tolist() == ["canary", "champion"]
    assert restarted.positions == straight.positions
