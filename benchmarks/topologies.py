"""Latency and throughput of the prediction path: three processes, one process, and a transactional pass-through, on one broker in one run.

    python -m benchmarks.topologies                       # a table on the screen
    python -m benchmarks.topologies --rates 1000 10000 --seconds 10 --burst 100000

Open loop: requests are published at a fixed rate whatever the system does; a latency runs from the instant a request was due until its committed
answer was read. CPU is that of the system's processes, and of the broker beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Address

from benchmarks.payments import fraud_model, payments, promotion, write_application
from deploy.embedded.infrastructure import Infrastructure
from shared.application.plan import Plan
from shared.application.planning import load_plan
from shared.avro.records import RecordCodec
from shared.avro.registry import ConfluentSchemaRegistry
from shared.models.artifacts import ArtifactStore
from shared.streaming.broker import TopicSpec
from shared.streaming.kafka_broker import KafkaBroker
from shared.streaming.topics import catalogue_topics

ROOT = Path(__file__).parents[1]
TOPOLOGIES = ("pass-through", "separate", "fused")
_FIRST_DIGIT, _LAST_DIGIT = 7, 18  # "p" and eleven digits stand behind the header and the length, in a payment and in a prediction alike
_IDLE_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One stretch of load on one topology."""

    topology: str
    offered_per_s: float
    events: int
    p50_ms: float
    p99_ms: float
    events_per_s: float
    cpu_us_per_event: float
    broker_us_per_event: float


class Answers(threading.Thread):
    """Notes when the answer to each request was read."""

    def __init__(self, bootstrap_servers: str, topic: str, total: int) -> None:
        super().__init__(daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers, "group.id": "topologies", "enable.auto.commit": False, "isolation.level": "read_committed",
                "fetch.wait.max.ms": 20, "fetch.queue.backoff.ms": 5,
            }
        )  # fmt: skip
        self._consumer.assign([Address(topic, 0, 0)])
        self.at = np.zeros(total)
        self.count = 0
        self.last = time.monotonic()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            messages = self._consumer.consume(2_000, 0.05)
            now = time.perf_counter()
            for message in messages:
                value = message.value()
                if message.error() is None and value is not None:
                    self.at[int(value[_FIRST_DIGIT:_LAST_DIGIT])] = now
                    self.count += 1
            if messages:
                self.last = time.monotonic()
        self._consumer.close()

    def wait_for(self, count: int) -> None:
        while self.count < count:
            if time.monotonic() - self.last > _IDLE_LIMIT_S:
                raise TimeoutError(f"{self.count} of {count} requests were answered, and none for {_IDLE_LIMIT_S:.0f} s")
            self.done.wait(0.005)


class Bench:
    """One topology at work, fed stretch by stretch."""

    def __init__(self, topology: str, servers: Infrastructure, folder: Path, total: int, stack: ExitStack, interval_ms: int) -> None:
        self.topology = topology
        app = f"bench-{topology}"
        application = write_application(folder / app, app)
        self.plan = load_plan(application)
        broker = KafkaBroker(servers.bootstrap_servers)
        registry = ConfluentSchemaRegistry(servers.registry_url)
        broker.create_topics([*catalogue_topics(app, 1), *(TopicSpec(topic) for topic in self.plan.topics.raw)])
        address = ArtifactStore(str(folder / "artifacts")).put(fraud_model(self.plan).to_bytes())
        deployments = RecordCodec(registry, f"{self.plan.topics.deployments}-tidemill.Deployment", _schema("deployment"))
        sink = broker.sink()
        sink.publish(self.plan.topics.deployments, b"fraud", deployments.encode(promotion(self.plan, address)), 0, 0)
        sink.close()
        self._events = payments(registry, self.plan, total, now_ms=time.time_ns() // 1_000_000)
        self._topic = self.plan.streams["payments"].topic
        self._answers = Answers(servers.bootstrap_servers, self.plan.topics.predictions, total)
        self._answers.start()
        self._producer = Producer(
            {
                "bootstrap.servers": servers.bootstrap_servers, "linger.ms": 2, "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1_000_000,
            }
        )  # fmt: skip
        self._sent = 0
        self._processes = [psutil.Process(process.pid) for process in _start(topology, self.plan, servers, application, folder, stack, interval_ms)]
        self._broker = [process for process in psutil.process_iter(["cmdline"]) if "kafka.Kafka" in (process.info["cmdline"] or ())]
        self._broker = [process for process in self._broker if str(servers.folder) in " ".join(process.cmdline())]

    def stretch(self, count: int, rate: float) -> Figure:
        """Publish `count` requests at a rate and wait for their answers."""
        begin, end = self._sent, self._sent + count
        cpu, broker = _cpu(self._processes), _cpu(self._broker)
        keys, values, produce, topic = self._events.keys, self._events.values, self._producer.produce, self._topic
        start = time.perf_counter()
        at = begin
        while at < end:
            ready = min(end, begin + int((time.perf_counter() - start) * rate) + 1)
            for j in range(at, ready):
                produce(topic, values[j], keys[j], 0)
            at = ready
            self._producer.poll(0)
            wait = start + (at - begin) / rate - time.perf_counter()
            if wait > 0:
                self._answers.done.wait(min(wait, 0.002))
        self._sent = end
        self._answers.last = time.monotonic()
        self._answers.wait_for(end)
        due = start + np.arange(count) / rate
        latency = (self._answers.at[begin:end] - due) * 1e3
        seconds = float(self._answers.at[begin:end].max() - start)
        return Figure(
            self.topology,
            rate,
            count,
            round(float(np.percentile(latency, 50)), 1),
            round(float(np.percentile(latency, 99)), 1),
            round(count / seconds),
            round((_cpu(self._processes) - cpu) / count * 1e6, 1),
            round((_cpu(self._broker) - broker) / count * 1e6, 1),
        )

    def close(self) -> None:
        """Stop reading."""
        self._answers.done.set()
        self._answers.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topologies", nargs="+", choices=TOPOLOGIES, default=list(TOPOLOGIES))
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--burst", type=int, default=100_000, help="requests published at once, for the throughput")
    parser.add_argument("--commit-interval-ms", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warm = 3_000
    total = warm + int(sum(options.rates) * options.seconds) + options.burst
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as name, Infrastructure.embedded(Path(name) / "servers") as servers:
        for topology in options.topologies:
            with ExitStack() as stack:
                bench = Bench(topology, servers, Path(name), total, stack, options.commit_interval_ms)
                bench.stretch(warm, 1_000)
                for rate in options.rates:
                    found.append(bench.stretch(int(rate * options.seconds), rate))
                if options.burst:
                    found.append(bench.stretch(options.burst, 1e6))
                bench.close()
    print(report(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in found], indent=1), encoding="utf-8")


def report(found: Sequence[Figure]) -> str:
    """Return the table as markdown, with each topology's ratio to the pass-through."""
    base = {figure.offered_per_s: figure for figure in found if figure.topology == "pass-through"}
    lines = [
        f"{os.cpu_count()} cores, load average at the end {os.getloadavg()[0]:.1f}",
        "",
        "| topology | offered/s | p50 ms | p99 ms | p99 / pass-through | events/s | CPU us/event | broker us/event |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for figure in found:
        burst = figure.offered_per_s >= 1e6
        latency = "- | - | -" if burst else f"{figure.p50_ms} | {figure.p99_ms} | " + (
            f"{figure.p99_ms / base[figure.offered_per_s].p99_ms:.2f}" if figure.offered_per_s in base else "-"
        )  # fmt: skip
        offered = "all at once" if burst else f"{figure.offered_per_s:,.0f}"
        lines.append(
            f"| {figure.topology} | {offered} | {latency} | {figure.events_per_s:,} | {figure.cpu_us_per_event} | {figure.broker_us_per_event} |"
        )
    return "\n".join(lines)


def _start(
    topology: str, plan: Plan, servers: Infrastructure, application: Path, folder: Path, stack: ExitStack, interval_ms: int
) -> list[subprocess.Popen[bytes]]:
    environment = {
        **os.environ, **servers.environment, "TIDEMILL_APPLICATION": str(application), "TIDEMILL_ARTIFACTS__URI": str(folder / "artifacts"),
        "TIDEMILL_RUNNER__STATE_FOLDER": str(folder / "state"), "TIDEMILL_RUNNER__COMMIT_INTERVAL_MS": str(interval_ms),
    }  # fmt: skip
    if topology == "pass-through":
        given = [servers.bootstrap_servers, "pass-through", plan.streams["payments"].topic, plan.topics.predictions, str(interval_ms)]
        commands = [["benchmarks.pass_through", *given]]
    else:
        commands = [["services.fused"]] if topology == "fused" else [[f"services.{stage}"] for stage in ("ingestion", "features", "scoring")]
    started = []
    for module, *given in commands:
        log = stack.enter_context((folder / f"{topology}-{module}.log").open("wb"))
        process = subprocess.Popen([sys.executable, "-m", module, *given], env=environment, cwd=ROOT, stdout=log, stderr=log)
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        started.append(process)
    return started


def _cpu(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _schema(name: str) -> str:
    return (ROOT / "schemas" / f"{name}.avsc").read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
