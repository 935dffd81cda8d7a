"""A small application and a made-up year of it: vectors, predictions, outcomes and progress, as they would lie in their topics."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.progress import Progress

DAY = 86_400_000
START = 19_000 * DAY
SCHEMAS = Path(__file__).parents[4] / "schemas"
APP = """
app: shop
owner: someone@example.org
partition_by: order_id
streams:
  orders: {topic: shop-orders, schema: order.avsc, event_id: order_id, event_time: placed}
  returns: {topic: shop-returns, schema: return.avsc, event_id: order_id, event_time: returned}
models:
  sent_back:
    ask: orders
    features: [amount, weight, country]
    label: {stream: returns, join: order_id, value: "bad", max_delay: 2d}
    fallback: {default: 0.3}
    retraining: {bootstrap_labels: 500}
    drift: {min_auc: 0.75}
"""


def shop(folder: Path, application: str = APP) -> Plan:
    """Plan of the application, written to a folder."""
    stamp = {"type": "long", "logicalType": "timestamp-millis"}
    order = [
        ("order_id", "string"),
        ("placed", stamp),
        ("amount", ["null", "double"]),
        ("weight", ["null", "double"]),
        ("country", ["null", "string"]),
    ]
    back = [("order_id", "string"), ("returned", stamp), ("bad", "double")]
    for name, fields in (("order", order), ("return", back)):
        record = {"type": "record", "name": name.title(), "namespace": "shop", "fields": [{"name": n, "type": t} for n, t in fields]}
        (folder / f"{name}.avsc").write_text(json.dumps(record))
    (folder / "app.yaml").write_text(application)
    return load_plan(folder)


@dataclass
class Shop:
    """Rows of the topics, in journal order, by topic: journal time, offset and fields."""

    vectors: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    end_ms: int
    end_offset: int
    schema_changes: list[dict[str, Any]] = field(default_factory=list)
    stream_ends: list[dict[str, Any]] = field(default_factory=list)


def season(seed: int = 0, days: int = 12, per_day: int = 300, promoted: int = 4, drifting: int = 8, delay_ms: int = 3_600_000) -> Shop:
    """Orders with labels that come late; a champion from day `promoted`; from day `drifting` on other amounts and a model that is worthless."""
    generator = np.random.default_rng(seed)
    times = np.sort(generator.integers(START, START + days * DAY, days * per_day))
    entries: list[tuple[int, int, int]] = sorted(
        [(int(t), 0, i) for i, t in enumerate(times)] + [(int(t) + delay_ms, 1, i) for i, t in enumerate(times) if i % 10]
    )
    shop = Shop([], [], [], int(times[-1]) + delay_ms, len(entries))
    asked: dict[int, dict[str, Any]] = {}
    for offset, (time, kind, i) in enumerate(entries):
        day = (int(times[i]) - START) // DAY
        if kind == 0:
            drift = day >= drifting
            amount = float(generator.lognormal(1.0 if drift else 0.0, 0.5))
            country = str(generator.choice(["de", "fr", "it", "new"], p=[0.5, 0.3, 0.1, 0.1] if drift else [0.5, 0.3, 0.2, 0.0]))
            weight = None if drift and generator.random() < 0.4 else float(generator.normal())
            chance = float(generator.random())
            where = {"_journal_partition": 0, "_journal_offset": offset, "_journal_time": time}
            shop.vectors.append(
                {
                    "_request_id": f"o{i}",
                    "_ask": "orders",
                    "_event_time": time,
                    "_late": False,
                    "amount": amount,
                    "weight": weight,
                    "country": country,
                }
                | where
            )
            serves = day >= promoted
            score = (float(generator.random()) if drift else chance) if serves else 0.3
            served = {"model_version": "v1", "deployment_sequence": 3, "variant": "champion"}
            default = {"model_version": "default", "deployment_sequence": -1, "variant": "default"}
            where = {"journal_partition": 0, "journal_offset": offset, "journal_time": time, "event_time": time}
            answer = {"request_id": f"o{i}", "model": "sent_back", "score": score, "predicted": int(score > 0.5), "reason": None}
            asked[i] = answer | where | (served if serves else default)
            asked[i]["label"] = float(generator.random() < chance)
            shop.predictions.append({name: value for name, value in asked[i].items() if name != "label"})
        else:
            one = {
                name: asked[i][name]
                for name in ("request_id", "model", "score", "predicted", "model_version", "deployment_sequence", "variant", "label")
            }
            times_of = {"request_journal_offset": asked[i]["journal_offset"], "request_journal_time": asked[i]["journal_time"]}
            where = {"journal_partition": 0, "journal_offset": offset, "journal_time": time}
            rest = {"event_time": asked[i]["event_time"], "status": "labelled", "label_event_time": time, "delay_ms": delay_ms, "revision": 0}
            shop.outcomes.append(one | times_of | where | rest)
    return shop


class Topics:
    """The topics' contents in wire format, cut into records at will."""

    def __init__(self, plan: Plan, registry: MemorySchemaRegistry, rows: Shop) -> None:
        topics = plan.topics
        schemas = {topics.vectors: plan.vector_schema}
        schemas |= {
            topic: (SCHEMAS / f"{name}.avsc").read_text() for topic, name in (
                (topics.predictions, "prediction"), (topics.outcomes, "outcome"), (topics.schema_changes, "schema-change"),
                (topics.stream_ends, "stream-end"),
            )
        }  # fmt: skip
        self.values: dict[str, list[bytes]] = {}
        self.times: dict[str, list[int]] = {}
        self.stages = {topics.vectors: "features", topics.predictions: "scoring", topics.outcomes: "outcomes", topics.schema_changes: "ingestion"}
        self.stages[topics.stream_ends] = "ingestion"
        self.progress = {topic: topics.progress(stage) for topic, stage in self.stages.items()}
        for topic, findings in zip(self.stages, (rows.vectors, rows.predictions, rows.outcomes, rows.schema_changes, rows.stream_ends), strict=True):
            encoder = ColumnEncoder(registry, topic, schemas[topic])
            self.values[topic] = list(encoder.encode(pa.RecordBatch.from_pylist(findings, schema=encoder.arrow)))
            self.times[topic] = [int(row["journal_time"] if "journal_time" in row else row["_journal_time"]) for row in findings]
        self.codec = RecordCodec(registry, "progress", (SCHEMAS / "progress.avsc").read_text())
        self.sequence = dict.fromkeys(self.progress.values(), 0)

    def records(self, topic: str, begin: int, end: int) -> Records:
        """A stretch of a topic."""
        values = self.values[topic][begin:end]
        offsets = np.arange(begin, begin + len(values), dtype=np.int64)
        # As if answered 5 to 24 ms after the request, every hundredth two seconds after it.
        times = np.array(self.times[topic][begin:end], np.int64) + np.where(offsets % 100 == 99, 2_003, 5 + offsets % 20)
        return Records(topic, 0, offsets, times, [None] * len(values), values)

    def covered(self, topic: str, offset: int, time_ms: int) -> Records:
        """Progress of the stage that writes a topic: everything it has was produced before these coordinates."""
        stage = self.stages[topic]
        outputs = {name: sum(time < time_ms for time in self.times[name]) for name, other in self.stages.items() if other == stage}
        progress = Progress(stage=stage, partition=0, covered_offset=offset, covered_time=time_ms, outputs=outputs)
        name = self.progress[topic]
        self.sequence[name] += 1
        at = np.array([self.sequence[name] - 1], dtype=np.int64)
        return Records(name, 0, at, np.zeros(1, np.int64), [b"0"], [progress.encode(self.codec)])

    def until(self, positions: dict[TopicPartition, int], begin: dict[TopicPartition, int]) -> list[Records]:
        """Data records between two positions, for a replay."""
        findings = []
        for topic in self.values:
            key = TopicPartition(topic, 0)
            findings.append(self.records(topic, begin.get(key, 0), positions.get(key, 0)))
        return findings
