"""A finished run, read back from its topics."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tidemill.runs.watch import record_codec
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.heartbeat import is_heartbeat
from tidemill.shared.log.records import Records, TopicPartition

_SCHEMAS = Path(__file__).parents[1] / "schemas"


@dataclass(frozen=True, slots=True)
class RunHistory:
    """What a run left in its topics.

    Attributes
    ----------
    journal, vectors, predictions
        By partition, as read: bytes included.
    rejected
        Ingestion's dead letters by reason: what never became an entry of the journal.
    duplicates, late, accepted
        Counts over all partitions.
    raw
        Records in the raw topics, heartbeats not counted.
    deployments
        The lifecycle log.
    """

    journal: dict[int, list[Records]]
    vectors: dict[int, list[Records]]
    predictions: dict[int, list[Records]]
    outcomes: pa.Table
    rejected: Counter[str]
    duplicates: int
    late: int
    accepted: int
    raw: int
    deployments: list[dict[str, Any]]


def read_history(plan: Plan, broker: Broker, registry: SchemaRegistry) -> RunHistory:
    """Read a run's topics to their ends."""
    reader, topics, partitions = broker.reader(), plan.topics, range(plan.application.partitions)

    def read(topic: str) -> dict[int, list[Records]]:
        return {partition: list(reader.read(TopicPartition(topic, partition), 0, None)) for partition in partitions}

    def values(topic: str, places: int = plan.application.partitions) -> list[bytes]:
        runs = (records for partition in range(places) for records in reader.read(TopicPartition(topic, partition), 0, None))
        return [value for records in runs for value in records.values if value is not None]

    journal = read(topics.journal)
    decoder = JournalDecoder(plan, registry)
    accepted = sum(int((decoder.decode(records).stream_index >= 0).sum()) for runs in journal.values() for records in runs)
    rejected = record_codec(registry, topics.rejected, "Rejected")
    deployment = record_codec(registry, topics.deployments, "Deployment")
    try:
        return RunHistory(
            journal,
            read(topics.vectors),
            read(topics.predictions),
            pa.Table.from_batches([ColumnDecoder(registry, _schema("outcome")).decode(values(topics.outcomes)).batch]),
            Counter(letter["reason"] for value in values(topics.rejected) if (letter := rejected.decode(value))["stage"] == "ingestion"),
            len(values(topics.duplicates)),
            len(values(topics.late)),
            accepted,
            sum(raw_records(records) for topic in topics.raw for runs in read(topic).values() for records in runs),
            [deployment.decode(value) for value in values(topics.deployments, 1)],
        )
    finally:
        reader.close()


def raw_records(records: Records) -> int:
    """Count the records of a raw topic; heartbeats are none, deletions are."""
    return sum(not is_heartbeat(key, value) for key, value in zip(records.keys, records.values, strict=True))


def decoded(registry: SchemaRegistry, schema: str, runs: dict[int, list[Records]]) -> pa.Table:
    """Return the records of all partitions as one table."""
    decoder = ColumnDecoder(registry, schema)
    batches = [decoder.decode(records.values).batch for records_of in runs.values() for records in records_of if len(records)]
    return pa.Table.from_batches(batches, schema=decoder.arrow if not batches else None)


def prediction_schema() -> str:
    """Return the Avro schema of predictions."""
    return _schema("prediction")


def shadow_score_schema() -> str:
    """Return the Avro schema of shadow scores."""
    return _schema("shadow-score")


def _schema(name: str) -> str:
    return (_SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8")
