"""The demo's open-loop stretches: the same flights as new requests of today, at a fixed rate."""

import time
import uuid

import numpy as np

from tidemill.demo.open_loop_load import LoadResult, run_load, stamp_requests
from tidemill.examples.flights.data import FlightsYear, stream_batch
from tidemill.replay.feed import subject
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.observability.settings import KafkaSettings

LOAD_RATE = 1_000
_LOAD_SECONDS = 20
_BURST_RATE, _BURST_EVENTS = 30_000, 120_000
_WARM_UP = 3_000


def measure_load(plan: Plan, registry: SchemaRegistry, kafka: KafkaSettings, year: FlightsYear, model: str) -> tuple[LoadResult, LoadResult]:
    """Return latency at a moderate rate and throughput at more than the system can take, after a warm-up."""
    stream = plan.streams[plan.models[model].ask]
    published = year.streams[stream.name]
    rows = published.frame[[raw is None for raw in published.raw]]
    rows = rows[(rows["distance"] > 0) & rows["carrier"].notna()].tail(20_000)
    encoder = ColumnEncoder(registry, subject(stream), stream.user_schema)

    def stretch(name: str, count: int, rate: float) -> LoadResult:
        chosen = rows.iloc[np.arange(count) % len(rows)]
        batch = stamp_requests(stream_batch(stream, chosen), name, str(stream.event_id), stream.event_time, int(time.time() * 1e3))
        keys = [key.encode() for key in batch.column(str(stream.event_id)).to_pylist()]
        topics, partitions = plan.topics, plan.application.partitions
        return run_load(kafka, stream.topic, topics.predictions, partitions, keys, encoder.encode(batch), rate)

    unique = uuid.uuid4().hex[:6]
    stretch(f"warm-{unique}", _WARM_UP, LOAD_RATE)
    latency = stretch(f"steady-{unique}", LOAD_RATE * _LOAD_SECONDS, LOAD_RATE)
    return latency, stretch(f"burst-{unique}", _BURST_EVENTS, _BURST_RATE)
