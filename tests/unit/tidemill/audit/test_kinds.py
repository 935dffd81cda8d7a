"""Three classes and numbers are audited bit for bit: a run agrees with itself, and one other bit of a probability or an interval is found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kind_events import AMOUNTS, START, THREE_CLASSES, flowers, parcels, species_model, weight_model
from tidemill.audit.audit import AuditResult, audit
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.models.artifacts import Artifact
from tidemill.testing import ApplicationRun


@dataclass
class Topics:
    """A run's topics, in which single records can be replaced."""

    run: ApplicationRun
    replaced: Mapping[int, bytes] = field(default_factory=dict)

    def journal(self, partition: int) -> Iterator[Records]:
        yield self.read(self.run.plan.topics.journal, partition)

    def vectors(self, partition: int) -> Iterator[Records]:
        yield self.read(self.run.plan.topics.vectors, partition)

    def predictions(self, partition: int) -> Iterator[Records]:
        records = self.read(self.run.plan.topics.predictions, partition)
        values = [self.replaced.get(i, value) for i, value in enumerate(records.values)]
        yield Records(records.topic, partition, records.offsets, records.timestamps_ms, records.keys, values)

    def shadow_scores(self, partition: int) -> Iterator[Records]:
        return iter(())

    def revisions(self) -> Sequence[dict[str, Any]]:
        topic = self.run.plan.topics.revisions
        if not self.run.broker.log(TopicPartition(topic, 0)).end:
            return []
        codec = message_codec(self.run.registry, topic, "revision")
        return [codec.decode(value) for value in self.read(topic, 0).values if value is not None]

    def deployments(self) -> Sequence[dict[str, Any]]:
        topic = self.run.plan.topics.deployments
        codec = message_codec(self.run.registry, topic, "deployment")
        return [codec.decode(value) for value in self.read(topic, 0).values if value is not None]

    def read(self, topic: str, partition: int) -> Records:
        log = self.run.broker.log(TopicPartition(topic, partition))
        return log.read(0, log.end, 10**9)[0]


def audited(run: ApplicationRun, replaced: Mapping[int, bytes] | None = None) -> AuditResult:
    return audit(run.plan, run.registry, run._artifacts, Topics(run, replaced or {}))


CASES = [
    (THREE_CLASSES, "flowers", flowers(40)[0], "seen_at", "species", species_model(), "scores"),
    (AMOUNTS, "parcels", parcels(40)[0], "shipped_at", "weight", weight_model(), "upper"),
    (AMOUNTS, "parcels", parcels(40)[0], "shipped_at", "weight", weight_model(), "expected_error"),
]


@pytest.mark.parametrize(("application", "stream", "events", "time", "model", "made", "column"), CASES, ids=["classes", "numbers", "errors"])
def test_a_run_agrees_with_itself_to_the_bit(
    application: Path, stream: str, events: list[dict[str, Any]], time: str, model: str, made: Artifact, column: str
) -> None:
    with ApplicationRun(application, START.isoformat()) as run:
        for i, event in enumerate(events):
            if i == 15:
                run.run()
                run.deploy(model, made)
            run.clock.set(event[time].isoformat())
            run.publish(stream, event)
        predictions = run.run().predictions
        result = audited(run)
        assert result.clean and (result.vectors_compared, result.predictions_compared) == (40, 40)
        codec = message_codec(run.registry, run.plan.topics.predictions, "prediction")
        record = codec.decode(Topics(run).read(run.plan.topics.predictions, 0).values[30] or b"")
        assert record["request_id"] == predictions[30]["request_id"]
        if column == "scores":
            record[column] = {**record[column], "setosa": float(np.nextafter(record[column]["setosa"], 2.0))}
        else:
            record[column] = float(np.nextafter(record[column], np.inf))
        other = audited(run, {30: codec.encode(record)})
        assert (other.prediction_mismatches, other.vector_mismatches) == (1, 0)


def test_intervals_follow_their_revisions_and_are_audited_with_them(tmp_path: Path) -> None:
    """A revision of the version that serves moves the ends from the next step on; one of another version does not; predictions say which."""
    events, made = parcels(60)[0], weight_model()
    with ApplicationRun(AMOUNTS, START.isoformat()) as run:
        topic = run.plan.topics.revisions
        codec, sink = message_codec(run.registry, topic, "revision"), run.broker.sink()

        def revise(sequence: int, version: str, lower: float, upper: float) -> None:
            place = {"journal_partition": 0, "journal_offset": 0, "journal_time": run.clock.now_ms()}
            record = {"model": "weight", **place, "sequence": sequence, "model_version": version, "lower_offset": lower, "upper_offset": upper}
            sink.publish(topic, b"weight", codec.encode({**record, "labels": 20}), run.clock.now_ms(), 0)

        steps = {
            10: lambda: run.deploy("weight", made),
            30: lambda: revise(0, made.signature.version, -0.25, 0.5),
            40: lambda: revise(1, "other", -9, 9),
        }
        for i, event in enumerate(events):
            if i in steps:
                run.run()
                steps[i]()
            run.clock.set(event["shipped_at"].isoformat())
            run.publish("parcels", event)
        answers = run.run().predictions
        assert [one["revision"] for one in answers] == [None] * 30 + [0] * 30
        assert made.signature.interval is not None
        low, high = made.signature.interval
        for one, ends in zip(answers[10:], [(low, high)] * 20 + [(-0.25, 0.5)] * 30, strict=True):
            assert (one["lower"], one["upper"]) == (one["score"] + ends[0], one["score"] + ends[1])
        assert audited(run).clean
        predictions = message_codec(run.registry, run.plan.topics.predictions, "prediction")
        record = predictions.decode(Topics(run).read(run.plan.topics.predictions, 0).values[45] or b"")
        assert audited(run, {45: predictions.encode({**record, "revision": 1})}).prediction_mismatches == 1
        assert audited(run, {45: predictions.encode({**record, "revision": None})}).prediction_mismatches == 1
