"""W6: raw topic to predictions topic, every service and the broker on the machine's first two cores."""

import importlib.util
import time
from functools import partial
from typing import Any

from benchmarks.cells import Cell, Run
from benchmarks.fraud_model import MODEL, VERSION, deploy, train
from benchmarks.laboratory import Laboratory
from benchmarks.latency import measure_latency
from benchmarks.oracle import expected_vectors
from benchmarks.payment_stream import encode, generate, publish
from benchmarks.processes import cpu_s, peak_memory_mb, tree
from benchmarks.systems import COMMIT_INTERVAL_MS, EXACTLY_ONCE
from benchmarks.throughput import RunFailed, output_length
from benchmarks.tidemill import Installation
from benchmarks.tidemill_cells import FEATURES
from tidemill.runs.pipeline import start_services
from tidemill.runs.supervisor import Supervisor
from tidemill.shared.models.registry import ModelRegistry

BACKLOG_EVENTS = 600_000
RATE = 10_000
TOPOLOGIES = ("separate", "fused")
_MODEL_EVENTS = 60_000
_LIMIT_S = 180.0
_SAMPLE_S = 0.1
_FACTS = {"guarantee": EXACTLY_ONCE, "commit_interval": f"{COMMIT_INTERVAL_MS} ms"}


class WholeSystemCells:
    """Makes the cells of W6: a backlog worked off as fast as the machine can, and latency at 10,000 events/s."""

    def __init__(self, laboratory: Laboratory, events: int, rounds: int) -> None:
        self._laboratory = laboratory
        self._events = min(BACKLOG_EVENTS, events)
        self._rounds = min(3, rounds)

    def cells(self) -> list[Cell]:
        """Both of them, for both topologies."""
        made = []
        for topology in TOPOLOGIES:
            system, backlog = f"Tidemill, {topology}", partial(self._backlog, topology)
            made.append(Cell(system, "W6", "system", backlog, self._rounds, {**_FACTS, "events": self._events}))
            made.append(Cell(system, "W6", "latency", partial(self._latency, topology), self._rounds, {**_FACTS, "events_per_s": RATE}))
        return made

    def _backlog(self, topology: str, number: int) -> Run:
        """Publish a backlog first, then start everything; from the first prediction to the last, since the stages do not advance in step."""
        laboratory = self._laboratory
        installed = self._install(topology)
        laboratory.spread(True)
        try:
            encoded = encode(generate(self._events), laboratory.registry)
            publish(laboratory.bootstrap_servers, encoded, {installed.source: self._events}, lambda text: None)
            supervisor = start_services(installed.folder, {**installed.environment, "TIDEMILL_TOPOLOGY": topology})
            try:
                return self._watch(installed, supervisor)
            finally:
                supervisor.stop()
        finally:
            laboratory.spread(False)
            installed.keep_logs()
            installed.close()

    def _watch(self, installed: Installation, supervisor: Supervisor) -> Run:
        begun = time.monotonic()
        first: tuple[float, int, dict[str, float]] | None = None
        while True:
            supervisor.check()
            now, done = time.monotonic(), output_length(self._laboratory.bootstrap_servers, installed.plan.topics.predictions)
            if first is None and done:
                first = now, done, self._cpu(supervisor)
            if done >= self._events:
                break
            if now - begun > _LIMIT_S:
                raise RunFailed(f"expected {self._events:,} predictions within {_LIMIT_S:.0f} s, {done:,} came")
            time.sleep(_SAMPLE_S)
        if first is None or now <= first[0]:
            raise RunFailed("all predictions came within one sample")
        events, cpu = done - first[1], self._cpu(supervisor)
        memory = {name: round(peak_memory_mb(tree(pid))) for name, pid in supervisor.pids().items()}
        return {
            "events": self._events,
            "events_per_s": events / (now - first[0]),
            "cpu_s_per_million": {name: round((cpu[name] - first[2].get(name, 0.0)) / events * 1e6, 2) for name in cpu},
            "peak_memory_mb": sum(memory.values()),
            "memory_mb": memory,
            "restarts": sum(supervisor.restarts().values()),
        }

    def _cpu(self, supervisor: Supervisor) -> dict[str, float]:
        services = {name: cpu_s(tree(pid)) for name, pid in supervisor.pids().items()}
        return {**services, "broker": cpu_s([self._laboratory.broker_pid])}

    def _latency(self, topology: str, number: int) -> Run:
        laboratory = self._laboratory
        installed = self._install(topology)
        laboratory.spread(True)
        try:
            supervisor = start_services(installed.folder, {**installed.environment, "TIDEMILL_TOPOLOGY": topology})
            try:
                _await_stages(installed, supervisor)
                topics = installed.plan.topics
                encoded = laboratory.stretch(RATE)
                place = laboratory.bootstrap_servers, installed.source, topics.predictions
                return measure_latency(*place, encoded, RATE, laboratory.warm_up(RATE), laboratory.ready_events).to_dict()
            finally:
                supervisor.stop()
        finally:
            laboratory.spread(False)
            installed.keep_logs()
            installed.close()

    def _install(self, topology: str) -> Installation:
        if importlib.util.find_spec(f"tidemill.services.{topology}") is None and topology != "separate":
            raise RunFailed(f"expected a service tidemill.services.{topology}, there is none")
        installed = Installation(self._laboratory, "W5", None)
        expected = expected_vectors(generate(_MODEL_EVENTS))
        vectors: dict[str, Any] = {name: expected[oracle] for name, oracle in FEATURES.items()}
        deploy(installed.plan, train(installed.plan, vectors), installed.artifacts, self._laboratory.registry, self._laboratory.bootstrap_servers)
        # As a training would have: a registry that does not know what serves is told of it again and again, at five CPU seconds a time.
        models = ModelRegistry(installed.environment["TIDEMILL_TRACKING__URI"])
        models.record(installed.plan.application.app, MODEL, VERSION, installed.artifacts, {"decision_id": "benchmark"}, {}, {})
        return installed


def _await_stages(installed: Installation, supervisor: Supervisor) -> None:
    """Wait until every stage has its tasks: what starting costs is no part of the latency of a system at work."""
    deadline = time.monotonic() + _LIMIT_S
    waiting = [name for name in supervisor.pids() if name != "gateway"]
    while waiting:
        supervisor.check()
        waiting = [name for name in waiting if '"message": "assigned"' not in supervisor.log_tail(name, 200)]
        if time.monotonic() > deadline:
            raise RunFailed(f"expected every stage at work within {_LIMIT_S:.0f} s, {', '.join(waiting)} had no tasks")
        time.sleep(_SAMPLE_S)
