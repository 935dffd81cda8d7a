"""What the stages of a backtest publish, read as it comes."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from tidemill.runs.watch import RunState, record_codec
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.topics import STAGES
from tidemill.shared.avro.messages import message_decoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.merge.merging_task import decoded
from tidemill.shared.runner.progress import Progress

Taking = Callable[[pa.RecordBatch], None]


class PublicLog:
    """Follows progress, drift, health, decisions, trainings, deployments, dead letters, predictions and explanations.

    Parameters
    ----------
    on_predictions, on_explanations
        Takes every batch of them, in the columns of their schema. Explanations are not read when None.

    Attributes
    ----------
    duplicates, late
        How many copies were dropped; how many records came behind their allowed lateness.
    """

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry, on_predictions: Taking, on_explanations: Taking | None = None) -> None:
        topics = plan.topics
        self.seen = RunState()
        self.duplicates = self.late = 0
        self._topics = topics
        self._lists = self.seen.lists(topics, registry)
        self._stages = {topics.progress(stage): record_codec(registry, topics.progress(stage), "Progress") for stage in STAGES}
        self._letters = record_codec(registry, topics.rejected, "Rejected")
        self._columns = {topics.predictions: (message_decoder(registry, "prediction"), on_predictions)}
        if on_explanations is not None:
            self._columns[topics.explanations] = (message_decoder(registry, "explanation"), on_explanations)
        self._reader = broker.reader()
        single = [TopicPartition(topic, 0) for topic in self._lists]
        spread = (*self._stages, topics.rejected, topics.duplicates, topics.late, *self._columns)
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
        if topic in self._columns:
            decoder, on_rows = self._columns[topic]
            on_rows(decoded(decoder, records, "another stage"))
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
