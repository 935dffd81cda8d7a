"""A run whose application is changed while it goes on: every request answered once per model, views switched at one mark, the audit clean over it."""

from collections import Counter
from pathlib import Path

import pytest

from tests.unit.tidemill.planning.one_process import APP, COUNTED, SECOND, OneProcess, write
from tidemill.audit.audit_run import audit_topics
from tidemill.runs.instance import InstanceError
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.view_version import view_version
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.models.artifacts import ArtifactStore

FIRST, THEN = 120, 100


def test_a_changed_view_and_an_added_model_are_taken_over(tmp_path: Path) -> None:
    run = OneProcess(tmp_path)
    run.start(write(tmp_path / "one"))
    run.publish(FIRST)
    assert [event["event"] for event in run.records("meters-deployments", "deployment")][-1] == "promoted"
    run.stop()
    run.start(write(tmp_path / "two", APP.replace(*COUNTED) + SECOND))
    run.publish(THEN)

    asked = Counter((one["model"], one["request_id"]) for one in run.records("meters-predictions", "prediction"))
    assert set(asked.values()) == {1}
    assert {request for model, request in asked if model == "faulty"} == {f"r{i}" for i in range(FIRST + THEN)}
    assert {request for model, request in asked if model == "heat"} == {f"r{i}" for i in range(FIRST, FIRST + THEN)}
    served = [one for one in run.records("meters-predictions", "prediction") if one["model"] == "faulty"]
    assert {one["variant"] for one in served[FIRST:]} == {"champion"}, "its champion goes on through the switch"
    heat = [event["event"] for event in run.records("meters-deployments", "deployment") if event["model"] == "heat"]
    assert heat == ["registered", "gate_passed", "promoted"], "the added model is trained on its own labels"

    marks = run.records("meters-view-switches", "view-switch")
    assert [mark["view_version"] for mark in marks] == [view_version(plan) for plan in run.had.values()]
    vectors = ColumnDecoder(run.registry, run.plan.vector_schema).decode(run.values("meters-vectors")).batch
    assert vectors.column("_journal_offset")[FIRST - 1].as_py() < marks[1]["journal_offset"] <= vectors.column("_journal_offset")[FIRST].as_py()
    # Plain loop: six hours are 36 readings of ten minutes, of three meters in turn; with the filter only positive ones count.
    f0, counts = vectors.column("f0").to_pylist(), vectors.column("use__count_6h").to_pylist()
    for i in (FIRST - 1, FIRST, FIRST + 40):
        inside = [f0[j] for j in range(i, max(-1, i - 36), -3)]
        assert counts[i] == (len(inside) if i < FIRST else sum(value > 0 for value in inside)), i
    audited = run.audit()
    assert audited.result.clean, audited.result.examples
    assert audited.result.vectors_compared == FIRST + THEN and audited.result.predictions_compared == FIRST + 2 * THEN
    with pytest.raises(InstanceError, match="found no copy"):
        audit_topics(run.plan, run.broker, run.registry, ArtifactStore(run.artifacts))


def test_a_removed_model_is_retired_and_the_others_go_on(tmp_path: Path) -> None:
    run = OneProcess(tmp_path)
    run.start(write(tmp_path / "one", APP + SECOND))
    run.publish(FIRST)
    run.stop()
    run.start(write(tmp_path / "two"))
    run.publish(THEN)
    events = [event["event"] for event in run.records("meters-deployments", "deployment") if event["model"] == "heat"]
    assert events == ["registered", "gate_passed", "promoted", "retired"], "once, and never again"
    asked = Counter((one["model"], one["request_id"]) for one in run.records("meters-predictions", "prediction"))
    assert set(asked.values()) == {1} and len([1 for model, _ in asked if model == "heat"]) == FIRST
    outcomes = [one for one in run.records("meters-outcomes", "outcome") if one["model"] == "faulty" and one["status"] != "unmatched"]
    assert max(Counter(one["request_id"] for one in outcomes).values()) == 1 and len(outcomes) > FIRST
    audited = run.audit()
    assert audited.result.clean, audited.result.examples
    run.stop()
    # Declared again, it begins without a champion.
    run.start(write(tmp_path / "three", APP + SECOND))
    run.publish(10)
    last = [one for one in run.records("meters-predictions", "prediction") if one["model"] == "heat"][-10:]
    assert {one["variant"] for one in last} == {"default"}
    assert run.audit().result.clean


def test_changed_policies_and_streams_leave_what_was_answered_alone(tmp_path: Path) -> None:
    run = OneProcess(tmp_path)
    run.start(write(tmp_path / "one"))
    run.publish(30)
    run.stop()
    text = APP.replace("fallback: {default: 0.1}", "fallback: {default: 0.2}")
    added = "  notes: {topic: meters-notes, schema: truth.avsc, event_id: reading_id, event_time: at}\nentities:\n"
    run.start(write(tmp_path / "two", text.replace("entities:\n", added)))
    run.publish(30)
    defaults = [one["score"] for one in run.records("meters-predictions", "prediction")]
    assert defaults[:30] == [0.1] * 30 and defaults[30:] == [0.2] * 30
    marks = run.records("meters-view-switches", "view-switch")
    assert [mark["application_hash"] for mark in marks] == list(run.had) and marks[0]["view_version"] == marks[1]["view_version"]
    assert view_version(load_plan(tmp_path / "one")) == marks[1]["previous"]
    assert run.audit().result.clean
