"""A task whose right answer is known, and a broker that dies on command."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import Broker, TopicSpec
from tidemill.shared.log.records import Checkpoint, Coverage, Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.log.topics import CATALOGUE
from tidemill.shared.runner.dead_letters import DeadLetters
from tidemill.shared.runner.task import Stage, StepContext, Task, TaskInputs

SCHEMAS = CATALOGUE.parent
APP, STAGE = "shop", "counting"


def codec(name: str) -> RecordCodec:
    return RecordCodec(MemorySchemaRegistry(), f"{name}-value", (SCHEMAS / f"{name}.avsc").read_text())


def topics(app: str, partitions: int) -> list[TopicSpec]:
    names = ["input", "output", "rejected", "reference", f"{STAGE}-progress", f"{STAGE}-checkpoint"]
    return [TopicSpec(f"{app}-{name}", partitions) for name in names]


class CountingTask(Task):
    """Says for every record how many of its key there have been: wrong if state is lost, doubled or out of step."""

    def __init__(self, app: str, partition: int, poison: bytes | None = None, version: str = "1") -> None:
        self.app = app
        self.partition = partition
        self.counts: dict[str, int] = {}
        self.blobs: dict[str, int] = {}
        self.dirty: dict[str, int] = {}
        self.position = 0
        self.poison = poison
        self.version = version
        self.committed_calls = 0
        self.replayed = 0
        self.skips: list[int] = []

    def restore(self, entries: Sequence[StateEntry]) -> None:
        for entry in entries:
            assert entry.value is not None
            count, offset = json.loads(entry.value)
            self.counts[entry.key.decode()] = count
            self.blobs[entry.key.decode()] = offset

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        self.position = positions.get(TopicPartition(f"{self.app}-input", self.partition), 0)

    def replay(self, inputs: Sequence[Records]) -> None:
        for records in inputs:
            self.replayed += len(records)
            self._fold(records)

    def _fold(self, records: Records) -> list[bytes]:
        said = []
        for offset, key, value in zip(records.offsets.tolist(), records.keys, records.values, strict=True):
            assert key is not None
            if value == self.poison:
                raise ZeroDivisionError("poison")
            name = key.decode()
            if offset <= self.blobs.get(name, -1):
                continue
            self.counts[name] = self.counts.get(name, 0) + 1
            self.dirty.setdefault(name, offset)
            said.append(f"{name}={self.counts[name]}@{offset}".encode())
        return said

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        said: list[bytes] = []
        for records in inputs:
            said += self._fold(records)
            self.position = max(self.position, int(records.offsets[-1]) + 1)
        emissions = [Emission(f"{self.app}-output", self.partition, [None] * len(said), said)] if said else []
        here = TopicPartition(f"{self.app}-input", self.partition)
        return Step(emissions, {here: self.position} if self.position else {}, Coverage(self.position, self.position))

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        names = list(self.dirty)[: max(1, budget_bytes // 10)]
        entries = []
        for name in names:
            del self.dirty[name]
            entries.append(StateEntry(name.encode(), json.dumps([self.counts[name], self.position - 1]).encode()))
        oldest = min(self.dirty.values(), default=self.position)
        return Checkpoint(entries, {TopicPartition(f"{self.app}-input", self.partition): oldest})

    def committed(self) -> None:
        self.committed_calls += 1

    def versions(self) -> Mapping[str, str]:
        return {"core": self.version}

    def skipped(self, topic: str, partition: int, offsets: Any) -> None:
        self.skips += np.asarray(offsets).tolist()
        self.position = max(self.position, self.skips[-1] + 1)


def records_of(topic: str, partition: int, rows: Sequence[tuple[int, bytes | None, bytes | None]]) -> Records:
    """Make a run of (offset, key, value)."""
    offsets = np.array([offset for offset, _, _ in rows], np.int64)
    return Records(topic, partition, offsets, np.zeros(len(rows), np.int64), [key for _, key, _ in rows], [value for _, _, value in rows])


def expected(keys: Sequence[str], without: Sequence[int] = ()) -> list[bytes]:
    """What an uninterrupted loop would say."""
    counts: dict[str, int] = {}
    said = []
    for offset, key in enumerate(keys):
        if offset in without:
            continue
        counts[key] = counts.get(key, 0) + 1
        said.append(f"{key}={counts[key]}@{offset}".encode())
    return said


def arguments(
    app: str,
    broker: Broker,
    partitions: int = 1,
    inputs: TaskInputs | None = None,
    task_factory: Callable[[int], Task] | None = None,
    followers: Sequence[Stage] = (),
    **changes: Any,
) -> dict[str, Any]:
    lead = Stage(
        STAGE,
        inputs or TaskInputs((f"{app}-input",), other_outputs=(f"{app}-output",)),
        task_factory or (lambda partition: CountingTask(app, partition)),
    )
    return {
        "app": app,
        "stages": [lead, *followers],
        "instance": "0",
        "broker": broker,
        "partitions": partitions,
        "codec": lambda _: codec("progress"),
        "dead_letters": lambda stage: DeadLetters(f"{app}-rejected", stage, codec("rejected").encode),
        **changes,
    }


def output(broker: Broker, topic: str, partition: int = 0) -> list[bytes | None]:
    reader = broker.reader()
    values = [value for records in reader.read(TopicPartition(topic, partition), 0) for value in records.values]
    reader.close()
    return values


class Killed(BaseException):
    """The process is gone."""


class DyingBroker:
    """Passes everything on to a real in-memory broker until a countdown of transactional calls ends the process."""

    def __init__(self, broker: Broker, lives: int, after: bool) -> None:
        self._broker = broker
        self._lives = lives
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def transactional_sink(self, transactional_id: str) -> Any:
        return DyingSink(self._broker.transactional_sink(transactional_id), self)

    def call(self, action: Callable[[], Any]) -> Any:
        self._lives -= 1
        if self._lives == 0 and not self._after:
            raise Killed
        result = action()
        if self._lives == 0:
            raise Killed
        return result


class DyingSink:
    """The transactional sink of a `DyingBroker`."""

    def __init__(self, sink: Any, broker: DyingBroker) -> None:
        self._sink = sink
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._sink, name)
        return lambda *given: self._broker.call(lambda: method(*given))
