"""What must hold after every step, whatever was killed, lost, doubled or delayed: safety."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from campaigns.simulate.process import EXPLANATIONS, GATHERED, stage_inputs
from campaigns.simulate.world import World
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.memory.log import PartitionLog
from tidemill.shared.runner.progress import Progress

_SCHEMAS = Path(__file__).parents[2] / "schemas"


class ViolationError(AssertionError):
    """Something that must always hold does not."""


def schema(name: str) -> str:
    """Return the text of a schema of the project."""
    return (_SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8")


class SafetyChecks:
    """Follows everything that becomes visible, and holds it against what was published.

    Independent of the services: it reads topics, and keeps plain sets and counts.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        plan, registry = world.plan, world.registry
        topics = self._topics = plan.topics
        self._journal = JournalDecoder(plan, registry)
        self._predictions = ColumnDecoder(registry, schema("prediction"))
        self._explanations = ColumnDecoder(registry, schema("explanation"))
        self._duplicates = ColumnDecoder(registry, schema("duplicate"))
        self._codecs = {name: RecordCodec(registry, name, schema(name)) for name in ("rejected", "progress", "retraining", "decision")}
        self._inputs = stage_inputs(world)
        self._read: dict[TopicPartition, int] = {}
        self._known_logs: dict[str, list[PartitionLog]] = {}
        self._owners = {topics.journal: "ingestion", topics.duplicates: "ingestion", topics.late: "ingestion", topics.vectors: "features"}
        self._owners |= {topics.view_switches: "features", topics.predictions: "scoring", topics.outcomes: "outcomes", topics.drift: "drift"}
        self._owners |= {topics.health: "drift", topics.trials: "drift", topics.shadow_scores: "scoring"}
        self._owners |= {topics.deployments: "retraining", topics.retraining: "retraining"}
        self._owners |= {topics.decisions: "control", topics.flush_marks: "control"}
        self._owners |= {topics.scoring_times: "scoring", topics.explanations: EXPLANATIONS}
        self._owners |= {topics.schema_changes: "ingestion", topics.stream_ends: "ingestion"}
        self._owners |= {topics.found_incidents: "drift", topics.incidents: "control"}
        self._written: Counter[tuple[str, str, int]] = Counter()
        self._accounted: dict[tuple[int, TopicPartition], dict[int, str]] = defaultdict(dict)
        self._checked: dict[tuple[int, TopicPartition], int] = {}
        self._journal_time: dict[int, int] = {}
        self._answered: dict[tuple[str, str], tuple[int, int]] = {}
        self._explained: dict[tuple[str, str], int] = {}
        self._sequence: dict[tuple[int, str], tuple[int, int]] = {}
        self._due: set[tuple[str, int]] = set()
        self._decisions = 0
        self._asked: dict[str, int] = {}
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self.quarantined: dict[tuple[str, int], dict[tuple[str, int], set[int]]] = defaultdict(dict)
        self.progress: dict[tuple[str, int], Progress] = {}
        self.pauses = 0

    @property
    def stages(self) -> tuple[str, ...]:
        """Those that run, in the order of the data."""
        return tuple(self._inputs)

    @property
    def answered(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Partition and offset of the prediction of every (request, model)."""
        return self._answered

    def journal_time(self, partition: int) -> int:
        """Return the time of the newest journal record."""
        return self._journal_time.get(partition, 0)

    def fate(self, task: int, place: TopicPartition, offset: int) -> str | None:
        """Return where a raw record went: journal, rejected or duplicates."""
        return self._accounted[task, place].get(offset)

    def check(self) -> None:
        """Take in what has become visible since the last call; raises ViolationError."""
        topics = self._topics
        for records in self._fresh(topics.journal):
            self._take_journal(records)
        for records in self._fresh(topics.rejected):
            self._take_rejected(records)
        for records in self._fresh(topics.duplicates):
            self._take_duplicates(records)
        for records in self._fresh(topics.predictions):
            self._take_predictions(records)
        for records in self._fresh(topics.explanations):
            self._take_explanations(records)
        for records in self._fresh(topics.decisions):
            self._take_decisions(records)
        for records in self._fresh(topics.retraining):
            self._take_trainings(records)
        for topic in (
            *(topics.late, topics.vectors, topics.view_switches, topics.outcomes, topics.drift, topics.health, topics.deployments),
            *(topics.flush_marks, topics.found_incidents, topics.incidents),
            *(topics.trials, topics.shadow_scores, topics.scoring_times, topics.schema_changes, topics.stream_ends),
        ):
            for records in self._fresh(topic):
                self._count(records)
        self._due.update(place for stage in self.stages for records in self._fresh(topics.progress(stage)) for place in self._take_progress(records))
        for stage, task in sorted(self._due):
            if not self._is_hidden(task):
                self._check_progress(stage, task)
                self._due.discard((stage, task))

    def _is_hidden(self, task: int) -> bool:
        """Say whether somebody's open transaction hides what a task has written after it: then its counts cannot be compared yet."""
        topics = (*self._owners, self._topics.rejected)
        return any(log.last_stable() < log.end for topic in topics for log in self._logs(topic)[task : task + 1])

    def _fresh(self, topic: str) -> Iterator[Records]:
        for log in self._logs(topic):
            begin = self._read.get(log.address, 0)
            if log.end > begin and log.last_stable() > begin:
                records, self._read[log.address] = log.read(begin, log.end, 1 << 30)
                if len(records):
                    yield records

    def _logs(self, topic: str) -> list[PartitionLog]:
        """Return the partitions of a topic; no topic of a run is ever made anew."""
        if topic not in self._known_logs:
            broker = self._world.broker
            self._known_logs[topic] = [broker.log(TopicPartition(topic, number)) for number in range(broker.partitions(topic))]
        return self._known_logs[topic]

    def _count(self, records: Records) -> None:
        self._written[self._owners[records.topic], records.topic, records.partition] += len(records)

    def _take_journal(self, records: Records) -> None:
        self._count(records)
        batch = self._journal.decode(records)
        times = np.concatenate([[self._journal_time.get(records.partition, -1)], batch.journal_time_ms])
        if (np.diff(times) < 0).any():
            raise ViolationError(f"{records.topic}:{records.partition}: journal time runs backwards: {times.tolist()}")
        self._journal_time[records.partition] = int(times[-1])
        for name, group in batch.groups.items():
            topic = self._world.plan.streams[name].topic
            places = zip(group.columns.column("_source_partition").to_pylist(), group.columns.column("_source_offset").to_pylist(), strict=True)
            for partition, offset in places:
                self._account(records.partition, TopicPartition(topic, partition), offset, "journal")

    def _take_rejected(self, records: Records) -> None:
        for value in records.values:
            letter = self._codecs["rejected"].decode(value or b"")
            self._written[letter["stage"], records.topic, records.partition] += 1
            if letter["reason"] == "quarantined":
                gone = self.quarantined[letter["stage"], records.partition]
                gone.setdefault((letter["source_topic"], letter["source_partition"]), set()).add(letter["source_offset"])
            if letter["stage"] == "ingestion":
                place = TopicPartition(letter["source_topic"], letter["source_partition"])
                self._account(records.partition, place, letter["source_offset"], f"rejected: {letter['reason']}")

    def _take_duplicates(self, records: Records) -> None:
        self._count(records)
        columns = self._duplicates.decode(records.values).batch
        names = ("source_topic", "source_partition", "source_offset")
        for topic, partition, offset in zip(*(columns.column(name).to_pylist() for name in names), strict=True):
            self._account(records.partition, TopicPartition(topic, partition), offset, "duplicate")

    def _take_decisions(self, records: Records) -> None:
        self._count(records)
        for value in records.values:
            decision = self._codecs["decision"].decode(value or b"")
            if decision["sequence"] != self._decisions:
                raise ViolationError(f"decision {decision['decision_id']}: expected number {self._decisions}, found {decision['sequence']}")
            self._decisions += 1
            if (decision["action"], decision["verdict"]) == ("train", "requested"):
                if decision["decision_id"] in self._asked:
                    raise ViolationError(f"training {decision['decision_id']} was requested twice")
                self._asked[decision["decision_id"]] = decision["journal_time"]

    def _take_trainings(self, records: Records) -> None:
        """One start and one end of each, in this order; steps between them and places in the queue before, whatever the worker died of in between."""
        self._count(records)
        for value in records.values:
            training = self._codecs["retraining"].decode(value or b"")
            identity, ends = training["decision_id"], training["event"] != "started"
            if training["event"] == "queued":
                if identity in self._begun:
                    raise ViolationError(f"training {identity}: queued after it began")
                continue
            if training["event"] == "step":
                if identity not in self._begun or identity in self._ended:
                    raise ViolationError(f"training {identity}: a step of one that is not open")
                continue
            if identity in (self._ended if ends else self._begun) or (ends and training["event"] not in ("finished", "failed", "refused")):
                raise ViolationError(f"training {identity}: {training['event']} a second time, or nothing that ends it")
            (self._ended if ends else self._begun).add(identity)

    def _account(self, task: int, place: TopicPartition, offset: int, fate: str) -> None:
        known = self._accounted[task, place]
        if offset in known:
            raise ViolationError(f"{place.topic}:{place.partition}@{offset}: {known[offset]} and {fate} by task {task}")
        known[offset] = fate

    def _take_predictions(self, records: Records) -> None:
        self._count(records)
        batch = self._predictions.decode(records.values).batch
        names = ("request_id", "model", "deployment_sequence", "variant")
        columns = [batch.column(name).to_pylist() for name in names]
        for offset, request, model, sequence, variant in zip(records.offsets.tolist(), *columns, strict=True):
            before = self._answered.setdefault((request, model), (records.partition, offset))
            if before != (records.partition, offset):
                raise ViolationError(f"two predictions of {model} for {request}: at {before} and {(records.partition, offset)}")
            # Beside a champion that a refit replaces the same canary goes on; which pairs there may be is held to the lifecycle log at the end.
            champion, canary = self._sequence.get((records.partition, model), (-1, -1))
            if sequence < (canary if variant == "canary" else champion):
                raise ViolationError(f"prediction of {model} for {request}: {variant} {sequence} after champion {champion} and canary {canary}")
            self._sequence[records.partition, model] = (champion, sequence) if variant == "canary" else (sequence, canary)
        if (np.diff(int64_ms(batch.column("journal_offset"))) < 0).any():
            raise ViolationError(f"{records.topic}:{records.partition}: predictions out of the journal's order")

    def _take_explanations(self, records: Records) -> None:
        """One of each prediction that is there to be read, with its answer."""
        self._count(records)
        batch = self._explanations.decode(records.values).batch
        for offset, request, model in zip(
            records.offsets.tolist(), *(batch.column(name).to_pylist() for name in ("request_id", "model")), strict=True
        ):
            if (request, model) not in self._answered:
                raise ViolationError(f"{records.topic}:{records.partition}@{offset} explains an answer of {model} to {request} that nobody gave")
            if self._explained.setdefault((request, model), offset) != offset:
                raise ViolationError(f"two explanations of {model} for {request}: at {self._explained[request, model]} and {offset}")

    def _take_progress(self, records: Records) -> set[tuple[str, int]]:
        tasks = set()
        for value in records.values:
            if value is None:
                # A claim: whoever writes next has restored what is here.
                continue
            progress = Progress.decode(value, self._codecs["progress"])
            where = f"progress of {progress.stage} {progress.partition}, sequence {progress.sequence}"
            before = self.progress.get((progress.stage, progress.partition))
            if progress.sequence != (before.sequence if before else 0) + 1:
                raise ViolationError(f"{where}: expected to follow {before.sequence if before else 0}")
            if before and progress.covered_time < before.covered_time:
                raise ViolationError(f"{where}: covered {progress.covered_time} after {before.covered_time}")
            self.pauses += bool(progress.paused and not (before and before.paused))
            self.progress[progress.stage, progress.partition] = progress
            tasks.add((progress.stage, progress.partition))
        return tasks

    def _check_progress(self, stage: str, task: int) -> None:
        """Hold the last progress record against the group's offsets and against what is in the topics."""
        progress = self.progress[stage, task]
        where = f"progress of {stage} {task}, sequence {progress.sequence}"
        written = {topic: count for (owner, topic, partition), count in self._written.items() if owner == stage and partition == task and count}
        outputs = {topic: count for topic, count in progress.outputs.items() if count}
        if written != outputs:
            raise ViolationError(f"{where}: says it has written {outputs}, found {written}")
        inputs, broker = self._inputs[stage], self._world.broker
        if progress.group == f"shop-{stage}":
            numbers = range(2) if stage in GATHERED else (task,)
            grouped = [TopicPartition(topic, n) for topic in inputs.partitioned for n in numbers if n < broker.partitions(topic)]
            known = broker.group(progress.group).committed
            recorded = {place: progress.input_offsets[place] for place in grouped if place in progress.input_offsets}
            if progress.group in self._world.forgotten:
                # Those that have not moved since are committed again by the next process.
                recorded = {place: offset for place, offset in recorded.items() if place in known}
            committed = {place: known[place] for place in grouped if place in known}
            if committed != recorded:
                raise ViolationError(f"{where}: input offsets {recorded}, the group has committed {committed}")
        if stage == "retraining" and not self.quarantined[stage, task]:
            lost = [identity for identity, time in self._asked.items() if time < progress.covered_time and identity not in self._ended]
            if lost:
                raise ViolationError(f"{where}: covers {progress.covered_time}, but these trainings have not ended: {lost}")
        if stage == "ingestion":
            for place in [place for place in progress.input_offsets if place.topic in self._topics.raw]:
                self._check_conservation(where, task, place, progress.input_offsets[place])

    def _check_conservation(self, where: str, task: int, place: TopicPartition, position: int) -> None:
        """Raw = journal + rejected + duplicates: every record below the position has one fate, and none above it has."""
        known = self._accounted[task, place]
        log = self._world.broker.log(place)
        for offset in range(self._checked.get((task, place), 0), position):
            if offset not in known and log.entries[offset - log.low].value is not None:
                raise ViolationError(f"{where}: {place.topic}:{place.partition}@{offset} was passed and went nowhere")
        self._checked[task, place] = max(position, self._checked.get((task, place), 0))
        # A quarantine is written before the record is passed.
        ahead = [offset for offset in known if offset >= position and known[offset] != "rejected: quarantined"]
        if ahead:
            raise ViolationError(f"{where}: {place.topic}:{place.partition}@{max(ahead)} has a fate, but the position is {position}")
