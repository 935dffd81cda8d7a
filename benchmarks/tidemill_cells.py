"""Tidemill's rows: single stages, the separate topology in total, W6."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.cells import Cell, Run
from benchmarks.fraud_model import deploy, train
from benchmarks.laboratory import Laboratory
from benchmarks.latency import measure_latency
from benchmarks.oracle import compare
from benchmarks.payment_stream import EncodedPayments, Payments
from benchmarks.processes import SystemUnderTest
from benchmarks.results import numbered
from benchmarks.systems import COMMIT_INTERVAL_MS, EXACTLY_ONCE
from benchmarks.throughput import RunFailed
from benchmarks.tidemill import Installation, StageRun, total
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import SchemaRegistry

# The oracle's names under the application's.
FEATURES = {f"spent__{kind}_{window}": f"{kind}_{window}" for window in ("5m", "1h", "24h") for kind in ("count", "sum", "mean", "max")} | {
    "merchants__distinct_merchant_id_24h": "distinct_merchants_24h",
    "previous__time_since_last": "seconds_since_previous",
}
_FACTS = {"guarantee": EXACTLY_ONCE, "commit_interval": f"{COMMIT_INTERVAL_MS} ms"}
Vectors = Mapping[str, NDArray[np.float64]]


class TidemillCells:
    """Makes Tidemill's cells.

    Parameters
    ----------
    events
        Input events of a run at full speed.
    expected
        Gives the oracle's vectors of the first so many payments.
    """

    def __init__(self, laboratory: Laboratory, events: int, expected: Callable[[int], Vectors], rounds: int) -> None:
        self._laboratory = laboratory
        self._events = events
        self._expected = expected
        self._rounds = rounds
        self._model: bytes | None = None

    def cells(self) -> list[Cell]:
        """All of them, those of W4 first."""
        facts = {**_FACTS, "events": self._events}
        few = min(3, self._rounds)
        return [
            Cell("Tidemill, stages", "W5", "throughput", self._fraud, self._rounds, facts),
            Cell("Tidemill, stages", "W1", "throughput", self._ingestion, few, facts),
            *(Cell("Tidemill, stages", w, "throughput", partial(self._features, w), few, facts) for w in ("W2", "W3")),
            Cell("Tidemill, fused", "W4", "throughput", partial(self._fused, "W4"), self._rounds, facts),
            Cell("Tidemill, fused", "W5", "throughput", partial(self._fused, "W5"), few, facts),
        ]

    def latency_cells(self, rates: Sequence[int]) -> list[Cell]:
        """One stage from the journal, and the two from the raw topic, at fixed rates."""
        few = min(3, self._rounds)
        return [
            Cell(system, "W4", "latency", partial(self._latency, rate, stages), few, {**_FACTS, "events_per_s": rate})
            for rate in rates
            for system, stages in (
                ("Tidemill, fused", ("fused",)),
                ("Tidemill, features stage", ("features",)),
                ("Tidemill, ingestion + features", ("ingestion", "features")),
            )
        ]

    def _ingestion(self, number: int) -> Run:
        installed = Installation(self._laboratory, "W1", self._laboratory.input_topic(self._events))
        try:
            accepted = int((self._laboratory.payments.cents[: self._events] > 0).sum())
            return asdict(installed.throughput("ingestion", installed.plan.topics.journal, self._events, accepted).figures)
        finally:
            installed.close()

    def _features(self, workload: str, number: int) -> Run:
        installed = Installation(self._laboratory, workload, self._laboratory.input_topic(self._events))
        try:
            runs = self._chain(installed, ("ingestion", "features"))
            return {**asdict(runs[-1].figures), "stages": _by_stage(runs), "total": asdict(total(runs))}
        finally:
            installed.close()

    def _fraud(self, number: int) -> Run:
        """W4 and W5 in one pass: the journal, the vectors (checked in the first round), the predictions."""
        installed = Installation(self._laboratory, "W5", self._laboratory.input_topic(self._events))
        try:
            self._deploy(installed)
            runs = self._chain(installed, ("ingestion", "features", "scoring"))
            run: Run = {**asdict(total(runs)), "stages": _by_stage(runs), "w4_total": asdict(total(runs[:2]))}
            if number == 0:
                run["oracle"] = asdict(self._check(installed))
            return run
        finally:
            installed.close()

    def _fused(self, workload: str, number: int) -> Run:
        """Raw topic to predictions in one stage; without a model (W4) each prediction is the default, and the vectors are what counts."""
        installed = Installation(self._laboratory, workload, self._laboratory.input_topic(self._events))
        try:
            topics = installed.plan.topics
            if workload == "W5":
                self._deploy(installed)
            output = topics.predictions if workload == "W5" else topics.vectors
            run: Run = asdict(installed.throughput("fused", output, self._events, self._events).figures)
            if workload == "W4" and number == 0:
                run["oracle"] = asdict(self._check(installed))
            return run
        finally:
            installed.close()

    def _chain(self, installed: Installation, stages: Sequence[str]) -> list[StageRun]:
        topics = installed.plan.topics
        outputs = {"ingestion": topics.journal, "features": topics.vectors, "scoring": topics.predictions}
        return [installed.throughput(stage, outputs[stage], self._events, self._events) for stage in stages]

    def _check(self, installed: Installation) -> Any:
        values = installed.results(installed.plan.topics.vectors, self._events)
        decoder = ColumnDecoder(self._laboratory.registry, installed.plan.vector_schema)
        return compare(self._expected(self._events), *numbered(decoder, values, "_request_id", FEATURES))

    def _deploy(self, installed: Installation) -> None:
        vectors = {name: self._expected(self._events)[oracle] for name, oracle in FEATURES.items()}
        deploy(installed.plan, train(installed.plan, vectors), installed.artifacts, self._laboratory.registry, self._laboratory.bootstrap_servers)

    def _latency(self, events_per_s: int, stages: Sequence[str], number: int) -> Run:
        laboratory = self._laboratory
        installed = Installation(laboratory, "W4", None)
        running: list[SystemUnderTest] = []
        try:
            topics = installed.plan.topics
            raw = stages != ("features",)
            encoded = (
                laboratory.stretch(events_per_s)
                if raw
                else journal_entries(laboratory.live_payments(events_per_s), installed.plan, laboratory.registry)
            )
            running += [installed.start(stage) for stage in stages]
            source = installed.source if raw else topics.journal
            return measure_latency(
                laboratory.bootstrap_servers, source, topics.vectors, encoded, events_per_s, laboratory.warm_up(events_per_s), laboratory.ready_events
            ).to_dict()
        except RunFailed as problem:
            raise RunFailed(f"{problem}. {' '.join(f'{each.log}: {each.tail()}' for each in running)}") from problem
        finally:
            for each in running:
                each.stop()
            installed.close()


def _by_stage(runs: Sequence[StageRun]) -> dict[str, Any]:
    return {run.stage: asdict(run.figures) for run in runs}


def _full_name(schema: str) -> str:
    parsed = json.loads(schema)
    return f"{parsed['namespace']}.{parsed['name']}"


def journal_entries(payments: Payments, plan: Plan, registry: SchemaRegistry) -> EncodedPayments:
    """Return payments as ingestion would have journalled them."""
    stream = plan.streams["payments"]
    encoder = ColumnEncoder(registry, f"{plan.topics.journal}-{_full_name(stream.entry_schema)}", stream.entry_schema)
    n = len(payments)
    columns = payments.columns(0, n)
    time = np.maximum.accumulate(payments.event_time_ms)
    envelope = {
        "_journal_time": pa.array(time).cast(pa.timestamp("ms")),
        "_event_id": columns.column("payment_id"),
        "_event_time": columns.column("event_time"),
        "_late": pa.array(np.zeros(n, np.bool_)),
        "_source_partition": pa.array(np.zeros(n, np.int32)),
        "_source_offset": pa.array(np.arange(n)),
    }
    user = dict(zip(columns.schema.names, columns.columns, strict=True))
    values = encoder.encode(pa.RecordBatch.from_pydict({**envelope, **user}))
    return EncodedPayments([name.encode() for name in payments.account_ids(0, n)], values, time.tolist())
