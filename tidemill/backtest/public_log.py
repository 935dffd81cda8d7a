"""What the stages of a backtest publish, read as it comes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from tidemill.runs.watch import RunState, record_codec
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.topics import STAGES
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.progress import Progress

_PREDICTION = (Path(__file__).parents[1] / "schemas" / "prediction.avsc").read_text(encoding="utf-8")


class PublicLog:
    """Follows progress, drift, health, decisions, trainings, deployments, dead letters and predictions.

    Parameters
    ----------
    on_predictions
        Takes every batch of predictions, in the columns of their schema.

    Attributes
    ----------
    duplicates, late
        How many copies were dropped; how many records came behind their allowed lateness.
    """

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry, on_predictions: Callable[[pa.RecordBatch], None]) -> None:
        topics = plan.topics
        self.seen = RunState()
        self.duplicates = self.late = 0
        self._topics, self._on_predictions = topics, on_predictions
        self._lists = self.seen.lists(topics, registry)
        self._stages = {topics.progress(stage): record_codec(registry, topics.progress(stage), "Progress") for stage in STAGES}
        self._letters = record_codec(registry, topics.rejected, "Rejected")
        self._predictions = ColumnDecoder(registry, _PREDICTION)
        self._reader = broker.reader()
        single = [TopicPartition(topic, 0) for topic in self._lists]
        spread = (*self._stages, topics.rejected, topics.duplicates, topics.late, topics.predictions)
        places = [*single, *(TopicPartition(topic, number) for topic in spread for number in range(broker.partitions(topic)))]
        self._positions = dict.fromkeys(places, 0)

    def read(self) -> RunState:
        """Read to the ends of all topics."""
        for place, position in self._positions.items():
            end = self._reader.watermarks(place)[1]
            if position < end:
                for records in self._reader.read(place, position, end):
                    self._take(records)
                self._positions[place] = end
        return self.seen

    def _take(self, records: Records) -> None:
        topic, values = records.topic, [value for value in records.values if value is not None]
        if topic == self._topics.predictions:
            self._on_predictions(self._predictions.decode(records.values).batch)
        elif topic in self._stages:
            self._progress(topic, values)
        elif topic == self._topics.rejected:
            for value in values:
                self.seen.refuse(self._letters.decode(value))
        elif topic in self._lists:
            codec, rows = self._lists[topic]
            rows.extend(codec.decode(value) for value in values)
        elif topic == self._topics.duplicates:
            self.duplicates += len(values)
        else:
            self.late += len(values)

    def _progress(self, topic: str, values: Sequence[bytes]) -> None:
        if values:
            progress = Progress.decode(values[-1], self._stages[topic])
            self.seen.progress[(progress.stage, progress.partition)] = progress
