"""Recovery: a stage with a million entities is killed; how long until results flow again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.cells import Cell, Run
from benchmarks.laboratory import Laboratory
from benchmarks.payment_stream import EncodedPayments, encode, generate, publish
from benchmarks.processes import SystemUnderTest, peak_memory_mb
from benchmarks.systems import COMMIT_INTERVAL_MS, EXACTLY_ONCE, System
from benchmarks.throughput import RunFailed, output_length
from benchmarks.tidemill import Installation
from benchmarks.tidemill_cells import journal_entries

ENTITIES = 1_000_000
_AFTER = 1_000  # payments published while the stage is down
_FILL_LIMIT_S, _RECOVERY_LIMIT_S = 300.0, 240.0
_SAMPLE_S = 0.1


class RecoveryCells:
    """Makes the cells: Tidemill's features stage and Kafka Streams on W4, every account seen once before the kill."""

    def __init__(self, laboratory: Laboratory, entities: int, kafka_streams: System | None, command: list[str] | None, failed: str | None) -> None:
        self._laboratory = laboratory
        self._entities = entities
        self._kafka_streams = kafka_streams
        self._command = command
        self._failed = failed

    def cells(self) -> list[Cell]:
        """One run each: filling a million entities takes its time."""
        facts: Mapping[str, object] = {"guarantee": EXACTLY_ONCE, "commit_interval": f"{COMMIT_INTERVAL_MS} ms", "events": self._entities}
        made = [Cell("Tidemill, features stage", "W4", "recovery", self._tidemill, 1, facts)]
        if self._kafka_streams is not None:
            execute = partial(self._peer, self._kafka_streams, self._command or [])
            made.append(Cell("Kafka Streams", "W4", "recovery", execute, 1, {**facts, "commit_interval": self._kafka_streams.usual_interval}))
            made[-1].failed = self._failed
        return made

    def _encoded(self, encoding: Callable[..., EncodedPayments], *context: object) -> EncodedPayments:
        """Every account once, and then the first ones again."""
        drawn = generate(self._entities + _AFTER)
        account = np.arange(self._entities + _AFTER) % self._entities
        return encoding(replace(drawn, account=account), *context)

    def _tidemill(self, number: int) -> Run:
        installed = Installation(self._laboratory, "W4", None)
        try:
            topics = installed.plan.topics
            encoded = self._encoded(journal_entries, installed.plan, self._laboratory.registry)
            return self._measure(lambda: installed.start("features"), topics.journal, topics.vectors, encoded)
        finally:
            installed.close()

    def _peer(self, peer: System, command: list[str], number: int) -> Run:
        laboratory = self._laboratory
        run, folder = laboratory.new_run(f"{peer.name}-recovery")
        source, output = f"{run}-input", f"{run}-output"
        laboratory.create_topics([source, output])
        try:
            encoded = self._encoded(encode, laboratory.registry)
            return self._measure(lambda: laboratory.start_peer(peer, command, "W4", run, folder, source, output), source, output, encoded)
        finally:
            laboratory.end_run(run, folder)

    def _measure(self, start: Callable[[], SystemUnderTest], source: str, output: str, encoded: EncodedPayments) -> Run:
        servers, n = self._laboratory.bootstrap_servers, self._entities
        publish(servers, _part(encoded, 0, n), {source: n}, lambda text: None)
        sut = start()
        try:
            deadline = time.monotonic() + _FILL_LIMIT_S
            while (done := output_length(servers, output)) < n:
                if time.monotonic() > deadline or sut.exit_code is not None:
                    raise RunFailed(f"expected {n:,} results within {_FILL_LIMIT_S:.0f} s, {done:,} came. The end of its log:\n{sut.tail()}")
                time.sleep(_SAMPLE_S)
            memory = peak_memory_mb(sut.pids)
            sut.kill()
            killed = time.monotonic()
            before = output_length(servers, output)
            publish(servers, _part(encoded, n, n + _AFTER), {source: _AFTER}, lambda text: None)
            sut = start()
            _first_committed(servers, output, before, sut)
            recovered = time.monotonic() - killed
        finally:
            sut.stop()
        return {"entities": n, "recovery_s": recovered, "peak_memory_mb": memory, "memory_bytes_per_entity": memory * 2**20 / n}


def _part(encoded: EncodedPayments, begin: int, end: int) -> EncodedPayments:
    return EncodedPayments(encoded.keys[begin:end], encoded.values[begin:end], encoded.timestamps_ms[begin:end])


def _first_committed(servers: str, output: str, offset: int, sut: SystemUnderTest) -> None:
    reader = Consumer(
        {"bootstrap.servers": servers, "group.id": "benchmark-recovery", "enable.auto.commit": False, "isolation.level": "read_committed"}
    )
    reader.assign([TopicPartition(output, 0, offset)])
    deadline = time.monotonic() + _RECOVERY_LIMIT_S
    try:
        while True:
            message = reader.poll(0.1)
            if message is not None and message.error() is None:
                return
            if time.monotonic() > deadline or sut.exit_code is not None:
                raise RunFailed(f"expected results within {_RECOVERY_LIMIT_S:.0f} s after the kill, none came. The end of its log:\n{sut.tail()}")
    finally:
        reader.close()
