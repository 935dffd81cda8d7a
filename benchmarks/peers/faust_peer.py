"""Faust (faust-streaming): in-memory tables with changelog topics, at least once.

Its ``processing_guarantee="exactly_once"`` was measured not to write commit markers, so it is not used. The RocksDB store is slower.
"""

import os
import sys
from datetime import timedelta
from typing import Any

import faust
from records import Record, decode, encoder, enriched, statistic
from vector_tiles import array, empty_state, update

WORKLOAD = os.environ["WORKLOAD"]
_WINDOW_S = 300

app = faust.App(
    os.environ["RUN"],
    broker="kafka://" + os.environ["BOOTSTRAP"],
    store="memory://",
    datadir=os.environ["STATE_FOLDER"],
    key_serializer="raw",
    value_serializer="raw",
    topic_partitions=1,
    topic_replication_factor=1,
    topic_disable_leader=True,
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
    producer_linger=0.02,
    producer_max_batch_size=500_000,
    stream_buffer_maxsize=65_536,
    broker_commit_interval=float(os.environ.get("COMMIT_INTERVAL_MS", "2800")) / 1000,
)
payments = app.topic(os.environ["INPUT"], key_type=bytes, value_type=bytes, value_serializer="raw", partitions=1)
results = app.topic(os.environ["OUTPUT"], key_type=bytes, value_type=bytes, value_serializer="raw", partitions=1)

if WORKLOAD == "W0":

    @app.agent(payments)
    async def pass_through(stream: Any) -> None:
        async for event in stream.events():
            await results.send(key=event.key, value=event.value)

elif WORKLOAD == "W1":
    encode_enriched = encoder("enriched")

    @app.agent(payments)
    async def enrich(stream: Any) -> None:
        async for event in stream.events():
            payment = decode(event.value)
            if payment["amount"] > 0:
                await results.send(key=event.key, value=encode_enriched(enriched(payment)))

elif WORKLOAD == "W2":
    encode_statistic = encoder("statistic")
    statistics = app.Table("statistics", partitions=1, key_type=str, value_type=list)

    @app.agent(payments)
    async def running_statistic(stream: Any) -> None:
        async for event in stream.events():
            payment = decode(event.value)
            account = payment["account_id"]
            count, mean = statistics.get(account) or (0, 0.0)
            count += 1
            mean += (payment["amount"] - mean) / count
            statistics[account] = [count, mean]
            await results.send(key=event.key, value=encode_statistic(statistic(payment, count, mean)))

elif WORKLOAD == "W3":
    encode_window = encoder("window")
    table = app.Table("windows", partitions=1, key_type=str, value_type=list, default=lambda: [0, 0.0])
    windows = table.tumbling(float(_WINDOW_S), expires=timedelta(minutes=10), key_index=False)

    @app.agent(payments)
    async def count_windows(stream: Any) -> None:
        async for event in stream.events():  # the record's timestamp is its event time
            payment = decode(event.value)
            account = payment["account_id"]
            count, total = windows[account].current(event)
            windows[account] = [count + 1, total + payment["amount"]]
            start = payment["event_time"] // 1000 // _WINDOW_S * _WINDOW_S * 1000
            row: Record = {"account_id": account, "window_start": start, "count": count + 1, "sum": total + payment["amount"]}
            await results.send(key=event.key, value=encode_window(row))

elif WORKLOAD == "W4":
    encode_vector = encoder("vector")
    tiles = app.Table("tiles", partitions=1, schema=faust.Schema(key_type=str, value_type=bytes, key_serializer="json", value_serializer="raw"))
    merchants = app.Table("merchants", partitions=1, key_type=str, value_type=int)

    @app.agent(payments)
    async def vectors(stream: Any) -> None:
        newest = 0  # stream time; Faust has no state above the key, so a restart begins anew
        async for event in stream.events():
            payment = decode(event.value)
            newest = max(newest, payment["event_time"])
            account = payment["account_id"]
            kept = tiles.get(account)
            state = empty_state() if kept is None else array("d", kept)

            def get_hour(merchant: str, account: str = account) -> int | None:
                return merchants.get(account + merchant)  # type: ignore[no-any-return]  # faust has no types

            def set_hour(merchant: str, hour: int, account: str = account) -> None:
                merchants[account + merchant] = hour

            out = update(state, payment, newest, get_hour, set_hour)
            tiles[account] = state.tobytes()
            await results.send(key=event.key, value=encode_vector(out))

else:
    raise SystemExit(f"expected a workload W0 to W4, came {WORKLOAD}")

sys.argv = ["faust", "worker", "-l", "warn", "--without-web"]
app.main()
