"""One application with all that its services share: broker, registry, online store, lake, artifacts, time."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fsspec

from campaigns.simulate.clock import ScoringClock, SimulatedClock
from campaigns.simulate.lake import MemoryLake
from campaigns.simulate.traffic import RawRecord, record
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.commands.signing import RESUME_STREAM, signed_command
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.memory.log import PartitionLog
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.deployments import Lifecycles
from tidemill.shared.online_store.memory_store import MemoryOnlineStore, SharedMemory

FOLDER = Path(__file__).parent / "application"
_EXPLAINS = {"    retraining: {": "    explain: {top: 3}\n    retraining: {"}
"""What is another one where the model's answers are explained."""
_LEARNED = {
    "  fraud:\n": "  fraud:\n    kind: multiclass\n    classes: learned\n",
    'value: "bad > 0.5"': "value: \"CASE WHEN bad > 0.5 THEN 'bad' ELSE RIGHT(verdict_id, 1) END\"",
    ", on_timeout: negative": "",
    "    fallback: {default: 0.1}\n": "",
    "    training: {": "    training: {min_positives: 2, ",
}
"""What is another one where the classes are learned: a bad order, or one of a few kinds of good ones."""


@cache
def shop_plan(*, explains: bool = False, learned: bool = False) -> Plan:
    """Return the plan of the campaigns' application, loaded once.

    Parameters
    ----------
    explains
        Whether its model declares `explain`.
    learned
        Whether its model learns its classes.
    """
    others = (_EXPLAINS if explains else {}) | (_LEARNED if learned else {})
    if not others:
        return load_plan(FOLDER)
    text = (FOLDER / "app.yaml").read_text(encoding="utf-8")
    for declared, other in others.items():
        if text.count(declared) != 1:
            raise ValueError(f"expected {declared!r} once in {FOLDER / 'app.yaml'}")
        text = text.replace(declared, other)
    with tempfile.TemporaryDirectory(prefix="simulate-") as made:
        folder = Path(shutil.copytree(FOLDER, Path(made) / "application"))
        (folder / "app.yaml").write_text(text, encoding="utf-8")
        return load_plan(folder)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What differs from run to run besides the actions.

    Attributes
    ----------
    instances
        Instances of every stage with a task for each partition.
    max_batch, checkpoint_bytes, checkpoint_interval_ms
        As in `RunnerSettings`.
    topology
        ``separate``, ``fused``, or ``mixed``: the instances take turns.
    explains
        Whether the model declares `explain`: a stage more.
    times_scoring
        Whether scoring has a clock.
    learned
        Whether the model answers with classes that it learns.
    """

    instances: int = 2
    max_batch: int = 7
    checkpoint_bytes: int = 600
    checkpoint_interval_ms: int = 0
    topology: str = "separate"
    explains: bool = False
    times_scoring: bool = False
    learned: bool = False


class InlineExecutor(Executor):
    """Does the work at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it; what it raises is in the future, but a killed process has none."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as problem:
            future.set_exception(problem)
        return future


class World:
    """Everything outside of the processes.

    Attributes
    ----------
    forgotten
        Groups whose offsets were deleted at least once.

    Parameters
    ----------
    folder
        For what a process keeps on its own disk.
    """

    def __init__(self, folder: Path, settings: RunSettings) -> None:
        self.plan, self.settings, self.folder = shop_plan(explains=settings.explains, learned=settings.learned), settings, folder
        self.clock = SimulatedClock()
        self.scoring_clock = ScoringClock() if settings.times_scoring else None
        self.broker = MemoryBroker(self.clock.wall_ms, stable_timeout_s=0.0)
        self.registry = MemorySchemaRegistry()
        self.memory = SharedMemory()
        self.lake = MemoryLake()
        self.artifacts = ArtifactStore("memory://simulate")
        models = fsspec.filesystem("memory")
        if models.exists("/simulate"):
            models.rm("/simulate", recursive=True)
        self.published: dict[TopicPartition, list[tuple[str, RawRecord]]] = {}
        self.forgotten: set[str] = set()
        catalogue = catalogue_topics("shop", 2)
        self.compacted = [spec.name for spec in catalogue if spec.config["cleanup.policy"] == "compact"]
        self.broker.create_topics([*catalogue, TopicSpec("shop-orders", 2), TopicSpec("shop-verdicts", 2)])
        self.broker.create_topics([TopicSpec("shop-customers", 1)])
        self._sink = self.broker.sink()
        self._commands = message_codec(self.registry, self.plan.topics.commands, "command")
        self._deployments = message_codec(self.registry, self.plan.topics.deployments, "deployment")
        self._issued_ms = 0

    def store(self) -> MemoryOnlineStore:
        """Return a client of the online store."""
        return MemoryOnlineStore(self.plan, self.memory, self.clock.wall_ms)

    def publish(self, kind: str, number: int) -> None:
        """Publish a record."""
        made = record(kind, number, self.clock.wall_ms())
        before = {place: self.broker.log(place).end for place in self._places(made.topic)}
        self._sink.publish(made.topic, made.key, made.value, self.clock.wall_ms(), made.partition)
        for place, end in before.items():
            if self.broker.log(place).end > end:
                self.published.setdefault(place, []).append((kind, made))

    def resume(self) -> None:
        """Let an operator say that the stream which may be paused goes on; each command is later than the one before, whatever the clock does."""
        self._say("verdicts", RESUME_STREAM)

    def command(self, what: str) -> None:
        """Let an operator command something of the model; a pin is of what was named last, a test of what is tried or was trained last."""
        deployments = self.read(TopicPartition(self.plan.topics.deployments, 0)).values
        events = [self._deployments.decode(value or b"") for value in deployments] if what in ("pin", "ab") else []
        model, version = Lifecycles().follow(events).of("fraud"), ""
        if what == "pin" and events:
            version = str(events[-1]["version"])
        elif what == "ab" and model.champion is None:
            # Nobody asks what is better than nothing.
            what = "retrain"
        elif what == "ab" and model.champion is not None:
            others = [one.version for one in model.registered if one.version != model.champion.version]
            version = model.challenger.version if model.challenger else others[-1] if others else ""
        self._say("fraud", what, version)

    def _say(self, about: str, what: str, version: str = "") -> None:
        self._issued_ms = max(self._issued_ms + 1, self.clock.wall_ms())
        said = signed_command(b"nobody looks at it", about, what, "a drill", f"{what}-{self._issued_ms}", self._issued_ms, version=version)
        self._sink.publish(self.plan.topics.commands, about.encode(), self._commands.encode(said), self.clock.wall_ms())

    def read(self, place: TopicPartition, begin: int = 0) -> Records:
        """Return everything committed from an offset on."""
        log = self.broker.log(place)
        return log.read(begin, log.end, 10**9)[0]

    def written(self) -> int:
        """Return how many records there are in all topics."""
        return sum(len(log.entries) for log in self._logs())

    def fingerprint(self) -> str:
        """Return the SHA-256 of every entry of every log, uncommitted ones and markers included."""
        digest = hashlib.sha256()
        for log in self._logs():
            digest.update(f"{log.address}".encode())
            for entry in log.entries:
                state = entry.transaction.state if entry.transaction else ""
                digest.update(f"{entry.offset} {entry.timestamp_ms} {entry.key!r} {state}".encode())
                digest.update(entry.value or b"")
        return digest.hexdigest()

    def _logs(self) -> Iterator[PartitionLog]:
        for topic in sorted(self.broker.topics()):
            for place in self._places(topic):
                yield self.broker.log(place)

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self.broker.partitions(topic))]
