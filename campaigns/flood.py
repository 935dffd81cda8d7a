"""A stream that is nothing but ``{}``, through the real ingestion: ``python -m campaigns.flood --records 200000``.

Bars: every record is one dead letter, once; the good records behind them are accepted; no process ends. A second stream is paused by the same flood,
while the first one goes on, and reads on after one signed command.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.command_channel import KEY_FILE
from tidemill.runs.pipeline import pipeline_environment
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import ServiceSpec, Supervisor
from tidemill.runs.topics import create_topics
from tidemill.runs.watch import record_codec
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.flow import Flow
from tidemill.shared.log.partitioning import murmur2_partition
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.observability.secret_file import secret_file
from tidemill.shared.runner.progress import Progress

GOOD = 200
_DEADLINE_S = 200.0
_APPLICATION = """
app: {app}
owner: campaigns@example.org
partition_by: id
partitions: {partitions}
streams:
  orders: {{topic: {app}-orders, schema: order.avsc, event_id: id, event_time: at}}
  parcels: {{topic: {app}-parcels, schema: order.avsc, event_id: id, event_time: at, on_flood: pause}}
"""
_FIELDS = [{"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]


@dataclass(frozen=True, slots=True)
class FloodResult:
    """What became of it.

    Attributes
    ----------
    seconds
        From the first record until everything is committed.
    cpu_s
        Processor time of ingestion in these.
    resumed_s
        From the start of `tidemill resume` until all that the paused stream had is committed.
    """

    records: int
    rejected: int
    accepted: int
    paused: bool
    paused_accepted: int
    seconds: float
    cpu_s: float
    resumed_s: float
    restarts: int

    @property
    def as_it_must_be(self) -> bool:
        """Whether every bar is met."""
        return (self.rejected, self.accepted, self.paused_accepted) == (self.records, GOOD, GOOD) and self.paused and not self.restarts


class Ingestion:
    """The real ingestion of an application of two streams, and what it has committed."""

    def __init__(self, servers: Infrastructure, folder: Path, app: str, partitions: int = 1) -> None:
        application = folder / "application"
        application.mkdir(parents=True)
        (application / "app.yaml").write_text(_APPLICATION.format(app=app, partitions=partitions))
        (application / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "namespace": "flood", "fields": _FIELDS}))
        self.plan: Plan = load_plan(application)
        self.partitions = partitions
        self.broker = KafkaBroker(servers.bootstrap_servers)
        create_topics(self.plan, self.broker)
        registry = ConfluentSchemaRegistry(servers.registry_url)
        self._progress = record_codec(registry, self.plan.topics.progress("ingestion"), "Progress")
        environment = pipeline_environment(application, servers, folder, "live", read_settings())
        secret_file(folder / KEY_FILE)
        self._environment = {**os.environ, **servers.environment, "TIDEMILL_COMMANDS__KEY_FILE": str((folder / KEY_FILE).absolute())}
        self._application = application
        self.supervisor = Supervisor(folder / "logs", environment)
        self.supervisor.start([ServiceSpec("ingestion", "tidemill.services.ingestion")])
        self.process = psutil.Process(self.supervisor.pids()["ingestion"])
        self._named = 0
        self._sink = self.broker.sink()
        self._reader = self.broker.reader()

    def publish(self, stream: str, junk: int, good: int, partition: int = 0) -> list[str]:
        """Publish so much junk, and good records behind it; returns the ids of these."""
        topic = self.plan.streams[stream].topic
        for number in range(junk):
            self._sink.publish(topic, b"k%d" % (number % 100), b"{}", partition=partition)
        names: list[str] = []
        while len(names) < good:
            self._named += 1
            name = f"{stream}-{self._named}"
            # A key has its place.
            if murmur2_partition(name.encode(), self.partitions) == partition:
                names.append(name)
        self.send(stream, names, partition)
        return names

    def send(self, stream: str, names: Sequence[str], partition: int = 0) -> None:
        """Publish events with these ids; an id that was there is a copy."""
        for name in names:
            value = json.dumps({"id": name, "at": time.time_ns() // 1_000_000})
            self._sink.publish(self.plan.streams[stream].topic, name.encode(), value.encode(), partition=partition)
        self._sink.flush()

    def progress(self, partition: int = 0) -> Progress:
        """Return a partition's newest progress record."""
        place = TopicPartition(self.plan.topics.progress("ingestion"), partition)
        last = [records.values[-1] for records in self._reader.read(place, 0) if len(records)][-1:]
        return Progress.decode(last[0], self._progress) if last and last[0] is not None else Progress("ingestion", partition)

    def at_end(self, stream: str) -> bool:
        """Whether everything of a stream is committed."""
        return all(self.position(stream, partition) >= self.published(stream, partition) for partition in range(self.partitions))

    def flow(self, stream: str, partition: int = 0) -> Flow:
        """Return what is committed of a stream's refusals and its pause."""
        return self.progress(partition).flows[self.plan.streams[stream].topic]

    def position(self, stream: str, partition: int) -> int:
        """Return how far a stream is committed."""
        return self.progress(partition).input_offsets.get(TopicPartition(self.plan.streams[stream].topic, partition), 0)

    def published(self, stream: str, partition: int) -> int:
        """Return how many records a stream has."""
        return self._reader.watermarks(TopicPartition(self.plan.streams[stream].topic, partition))[1]

    def is_paused(self, stream: str) -> bool:
        """Whether a stream is paused in every partition."""
        return all(self.plan.streams[stream].topic in self.progress(partition).paused for partition in range(self.partitions))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        end = time.monotonic() + _DEADLINE_S
        while not condition():
            self.supervisor.check()
            if time.monotonic() > end:
                raise TimeoutError(f"not within {_DEADLINE_S:.0f} s: {what}\n{self.supervisor.log_tail('ingestion')}")
            time.sleep(0.05)

    def resume(self, stream: str) -> None:
        """Give the command, as an operator does."""
        words = ["resume", str(self._application), stream, "--reason", "the flood is over"]
        done = subprocess.run([sys.executable, "-m", "tidemill", *words], env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode or f"{stream} goes on" not in done.stdout:
            raise RuntimeError(f"tidemill {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")

    def cpu_s(self) -> float:
        """Processor time of ingestion so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def ids(self, partition: int = 0) -> list[str]:
        """Return the keys of the journal's entries."""
        return [key.decode() for key in self.keys(self.plan.topics.journal, partition) if key not in (None, b"tick")]

    def keys(self, topic: str, partition: int) -> list[bytes | None]:
        """Return the keys of a topic's committed records."""
        return [key for records in self._reader.read(TopicPartition(topic, partition), 0) for key in records.keys]

    def close(self) -> None:
        """End it."""
        self.supervisor.stop()
        self._reader.close()
        self._sink.close()


def flood(servers: Infrastructure, folder: Path, app: str, records: int) -> FloodResult:
    """Send the flood; `folder` is new, `app` a name that the servers have not seen."""
    run = Ingestion(servers, folder, app)
    try:
        run.publish("orders", 0, 1)
        run.until(lambda: run.at_end("orders"), "the first record")
        spent, begun = run.cpu_s(), time.monotonic()
        run.publish("orders", records, GOOD - 1)
        run.until(lambda: run.at_end("orders"), "every record of the flood")
        seconds, spent = time.monotonic() - begun, run.cpu_s() - spent
        # Less than two windows of the dead-letter limit, so that what follows the resume is not a flood once more.
        run.publish("parcels", 11_000, GOOD)
        run.until(lambda: run.is_paused("parcels"), "the pause")
        run.publish("orders", 1, 0)
        run.until(lambda: run.at_end("orders"), "the other stream")
        paused, begun = run.is_paused("parcels"), time.monotonic()
        run.resume("parcels")
        run.until(lambda: run.at_end("parcels"), "everything of the stream that was paused")
        resumed_s = time.monotonic() - begun
        ids, flows = run.ids(), run.progress().flows
        rejected = sum(flows[run.plan.streams["orders"].topic].rejected.values()) - 1
        letters = run.progress().outputs[run.plan.topics.rejected] - 11_001
        accepted = [sum(name.startswith(stream) for name in ids) for stream in ("orders", "parcels")]
        restarts = sum(run.supervisor.restarts().values())
        return FloodResult(records, rejected if rejected == letters else -1, accepted[0], paused, accepted[1], seconds, spent, resumed_s, restarts)
    finally:
        run.close()


def main() -> int:
    """Run the campaign; returns 0 when every bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=Path(".tidemill/campaigns/flood"))
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    with Infrastructure.embedded(options.folder / "servers") as servers:
        result = flood(servers, options.folder / "run", "flood", options.records)
    sys.stdout.write(
        f"{result.records:,} times {{}}: {result.rejected:,} dead letters and {result.accepted} good records behind them in {result.seconds:.1f} s,"
        f" {result.cpu_s:.1f} s of processor time, {result.restarts} restarts; the other stream was {'paused' if result.paused else 'NOT paused'},"
        f" and read to its end {result.resumed_s:.2f} s after the command\n{'PASSED' if result.as_it_must_be else 'FAILED'}\n"
    )
    return 0 if result.as_it_must_be else 1


if __name__ == "__main__":
    raise SystemExit(main())
