"""Quix Streams: exactly once, RocksDB state with changelog topics (its defaults); commits every COMMIT_INTERVAL_MS, 5 s unless given."""

import os
from collections.abc import Callable
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum
from quixstreams.models import Deserializer, Serializer
from records import Record, decode, encoder, enriched, statistic
from vector_tiles import array, empty_state, update

WORKLOAD = os.environ["WORKLOAD"]
RESULTS = {"W1": "enriched", "W2": "statistic", "W3": "window", "W4": "vector"}


class PaymentDeserializer(Deserializer):
    def __call__(self, value: bytes, ctx: Any) -> Record:
        return decode(value)


class ResultSerializer(Serializer):
    def __init__(self, encode: Callable[[Record], bytes]) -> None:
        super().__init__()
        self._encode = encode

    def __call__(self, value: Record, ctx: Any) -> bytes:
        return self._encode(value)


class StreamTime:
    """The newest event time so far; Quix has no state above the key, so a restart begins anew."""

    def __init__(self) -> None:
        self.newest = 0

    def pass_by(self, payment: Record) -> int:
        if payment["event_time"] > self.newest:
            self.newest = payment["event_time"]
        return self.newest


def running_statistic(payment: Record, state: Any) -> Record:
    count, mean = state.get("statistic") or (0, 0.0)
    count += 1
    mean += (payment["amount"] - mean) / count
    state.set("statistic", [count, mean])
    return statistic(payment, count, mean)


def main() -> None:
    raw = WORKLOAD == "W0"
    app = Application(
        broker_address=os.environ["BOOTSTRAP"],
        consumer_group=os.environ["RUN"],
        auto_offset_reset="earliest",
        state_dir=os.environ["STATE_FOLDER"],
        loglevel="WARNING",
        processing_guarantee="exactly-once",
        commit_interval=float(os.environ.get("COMMIT_INTERVAL_MS", "5000")) / 1000,
        producer_extra_config={"linger.ms": 5, "queue.buffering.max.messages": 1_000_000, "retry.backoff.ms": 2},
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
    )
    source = app.topic(os.environ["INPUT"], key_deserializer="bytes", value_deserializer="bytes" if raw else PaymentDeserializer())
    result = app.topic(
        os.environ["OUTPUT"], key_serializer="bytes", value_serializer="bytes" if raw else ResultSerializer(encoder(RESULTS[WORKLOAD]))
    )
    rows = app.dataframe(source)
    stream_time = StreamTime()

    def vector(payment: Record, state: Any) -> Record:
        kept = state.get_bytes("tiles")
        tiles = empty_state() if kept is None else array("d", kept)
        out = update(tiles, payment, stream_time.pass_by(payment), state.get, state.set)
        state.set_bytes("tiles", tiles.tobytes())
        return out

    if WORKLOAD == "W1":
        rows = rows.filter(lambda payment: payment["amount"] > 0).apply(enriched)
    elif WORKLOAD == "W2":
        rows = rows.apply(running_statistic, stateful=True)
    elif WORKLOAD == "W3":
        windows = rows.tumbling_window(duration_ms=300_000, grace_ms=60_000).agg(count=Count(), sum=Sum("amount")).current()
        rows = windows.apply(
            lambda value, key, time, headers: {
                "account_id": key.decode(),
                "window_start": value["start"],
                "count": value["count"],
                "sum": value["sum"],
            },
            metadata=True,
        )
    elif WORKLOAD == "W4":
        rows = rows.apply(vector, stateful=True)
    rows.to_topic(result)
    app.run()


main()
