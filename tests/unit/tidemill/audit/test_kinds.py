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
        found = self.read(self.run.plan.topics.predictions, partition)
        values = [self.replaced.get(i, value) for i, value in enumerate(found.values)]
        yield Records(found.topic, partition, found.offsets, found.timestamps_ms, found.keys, values)

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
]


@pytest.mark.parametrize(("application", "stream", "events", "time", "model", "made", "column"), CASES, ids=["classes", "numbers"])
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
