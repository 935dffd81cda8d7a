"""Where measurements happen: embedded servers on one core, the systems under test on the other, the same input for all."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException

from benchmarks.environments import PEERS
from benchmarks.latency import Latency, measure_latency
from benchmarks.payment_stream import SCHEMAS, EncodedPayments, Payments, encode, generate, publish
from benchmarks.processes import SystemUnderTest, cores, pin
from benchmarks.systems import RESULT_SCHEMAS, System
from benchmarks.throughput import RunFailed, Throughput, committed_records, measure
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.admin import AdminClient, NewTopic

Say = Callable[[str], None]
WARM_UP_S, MEASURED_S = 6.0, 12.0
_READY_EVENTS = 20
_RUN_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A run at full speed and, when they were asked for, its committed results."""

    figures: Throughput
    results: list[bytes]


class Laboratory:
    """The benchmark's servers, input topics and run folders, as a context manager.

    Attributes
    ----------
    payments
        The longest input; every input topic holds its first so many.
    """

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder = folder
        self._say = say
        self._system_core, self._driver_core = cores()
        self._all_cores = {self._system_core, self._driver_core}
        self._runs = 0
        self._topics: dict[int, str] = {}
        shutil.rmtree(folder / "runs", ignore_errors=True)
        self.infrastructure = Infrastructure.embedded(folder / "runs" / "servers")

    def __enter__(self) -> Self:
        pin_self({self._driver_core})
        self.infrastructure.start()
        self.registry = ConfluentSchemaRegistry(self.infrastructure.registry_url)
        self.bootstrap_servers = self.infrastructure.bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 2})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.infrastructure.stop()
        pin_self(self._all_cores)
        if kind is None:
            shutil.rmtree(self.folder / "runs", ignore_errors=True)

    @property
    def system_cores(self) -> set[int]:
        """The core of the system under test."""
        return {self._system_core}

    @property
    def broker_pid(self) -> int:
        """Process id of Kafka."""
        return self.infrastructure.kafka.pid

    def spread(self, everywhere: bool) -> None:
        """Let broker, registry, Redis and driver use both cores (W6), or confine them to theirs."""
        allowed = self._all_cores if everywhere else {self._driver_core}
        for component in (self.infrastructure.kafka, self.infrastructure.registry, self.infrastructure.redis):
            pin(component.pid, allowed)
        pin_self(allowed)

    def prepare_input(self, sizes: set[int]) -> None:
        """Draw the payments and fill one input topic for each size."""
        self._say(f"drawing {max(sizes):,} payments ...")
        self.payments: Payments = generate(max(sizes))
        encoded = encode(self.payments, self.registry)
        self._topics = {n: f"payments-{n}" for n in sizes}
        self.create_topics(self._topics.values())
        publish(self.bootstrap_servers, encoded, {topic: n for n, topic in self._topics.items()}, self._say)

    def input_topic(self, events: int) -> str:
        """Topic with the first so many payments."""
        return self._topics[events]

    def create_topics(self, names: Iterable[str], partitions: int = 1) -> None:
        """Make topics that keep everything."""
        asked = [NewTopic(name, partitions, 1, config={"retention.ms": "-1"}) for name in names]
        for future in self._admin.create_topics(asked).values():
            future.result()

    def delete_topics(self, mark: str) -> None:
        """Drop every topic whose name has the run's mark: the disk is small and the broker's cleaner is not what is measured."""
        names = [name for name in self._admin.list_topics(timeout=10).topics if mark in name]
        if names:
            for future in self._admin.delete_topics(names).values():
                try:
                    future.result()
                except KafkaException:
                    continue

    def new_run(self, name: str) -> tuple[str, Path]:
        """Return a fresh name, in which no other run's is contained, and its empty folder."""
        self._runs += 1
        run = f"run{self._runs:04d}-" + "".join(c if c.isalnum() else "-" for c in name.lower())
        folder = self.folder / "runs" / run
        folder.mkdir(parents=True)
        return run, folder

    def end_run(self, run: str, folder: Path) -> None:
        """Delete what a run left."""
        self.delete_topics(run)
        shutil.rmtree(folder, ignore_errors=True)

    def throughput(self, system: System, command: list[str], workload: str, with_results: bool) -> Finished:
        """Run a peer once over its input at full speed."""
        run, folder = self.new_run(f"{system.name}-{workload}")
        output = f"{run}-output"
        self.create_topics([output])
        expected = system.events
        if workload == "W1":
            expected = int((self.payments.cents[: system.events] > 0).sum())
        sut = self.start_peer(system, command, workload, run, folder, self.input_topic(system.events), output)
        try:
            figures = measure(sut, self.bootstrap_servers, self.broker_pid, output, system.events, expected, _RUN_LIMIT_S)
            results = self._results(output, expected, sut) if with_results else []
        finally:
            sut.stop()
            self.end_run(run, folder)
        return Finished(figures, results)

    def start_peer(self, system: System, command: list[str], workload: str, run: str, folder: Path, source: str, output: str) -> SystemUnderTest:
        """Start a peer; with the same run and folder as before it continues."""
        environment = self._environment(system, workload, run, folder, source, output)
        return SystemUnderTest(command, environment, self.log_file(run), self.system_cores)

    def latency(self, system: System, command: list[str], workload: str, events_per_s: int) -> Latency:
        """Time a peer at a fixed rate."""
        run, folder = self.new_run(f"{system.name}-{workload}-{events_per_s}")
        source, output = f"{run}-input", f"{run}-output"
        self.create_topics([source, output])
        encoded = self.stretch(events_per_s)
        sut = self.start_peer(system, command, workload, run, folder, source, output)
        try:
            return measure_latency(self.bootstrap_servers, source, output, encoded, events_per_s, self.warm_up(events_per_s), _READY_EVENTS)
        except RunFailed as problem:
            raise RunFailed(f"{problem}. The end of its log ({sut.log}):\n{sut.tail()}") from problem
        finally:
            sut.stop()
            self.end_run(run, folder)

    def stretch(self, events_per_s: int) -> EncodedPayments:
        """Return a live stretch at a rate, encoded."""
        return encode(self.live_payments(events_per_s), self.registry)

    @property
    def ready_events(self) -> int:
        """Events at the beginning of a live stretch that show that the system is up."""
        return _READY_EVENTS

    def warm_up(self, events_per_s: int) -> int:
        """Return how many events after those do not count."""
        return int(events_per_s * WARM_UP_S)

    def live_payments(self, events_per_s: int) -> Payments:
        """Draw a live stretch at a rate: warm-up and measured part, event times from now on."""
        n = _READY_EVENTS + int(events_per_s * (WARM_UP_S + MEASURED_S))
        return generate(n, spacing_ms=1000 / events_per_s, begin_ms=int(time.time() * 1000) - 1_000)

    def log_file(self, run: str) -> Path:
        """Where a run's output goes; logs outlive their run."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        return logs / f"{run}.log"

    def _environment(self, system: System, workload: str, run: str, folder: Path, source: str, output: str) -> dict[str, str]:
        schema = (SCHEMAS / f"{RESULT_SCHEMAS[workload]}.avsc").read_text(encoding="utf-8")
        interval = {} if system.commit_interval_ms is None else {"COMMIT_INTERVAL_MS": str(system.commit_interval_ms)}
        return {
            "BOOTSTRAP": self.bootstrap_servers,
            "INPUT": source,
            "OUTPUT": output,
            "WORKLOAD": workload,
            "RUN": run,
            "STATE_FOLDER": str(folder),
            "SCHEMAS": str(SCHEMAS),
            "OUTPUT_SCHEMA_ID": str(self.registry.register(f"benchmark-{workload.lower()}-result", schema)),
            "PYTHONDONTWRITEBYTECODE": "1",
            **interval,
            **system.variables,
        }

    def _results(self, output: str, expected: int, sut: SystemUnderTest) -> list[bytes]:
        """Read the committed results; the last transaction may still be open when the last record is written."""
        deadline = time.monotonic() + 30
        while True:
            values = committed_records(self.bootstrap_servers, output)
            if len(values) >= expected:
                return values
            if time.monotonic() > deadline:
                raise RunFailed(f"expected {expected:,} committed results, found {len(values):,} 30 s after the last was written. {sut.tail()}")
            time.sleep(0.5)


def pin_self(allowed: set[int]) -> None:
    """Confine this process."""
    pin(os.getpid(), allowed)


def pass_through_command() -> list[str]:
    """Run the pass-through in this project's own environment."""
    return [sys.executable, str(PEERS / "pass_through.py")]
