"""Brings a task back from the log: committed offsets, progress and checkpoint, replay."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tidemill.shared.log.broker import Reader, Source
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.lost_offset import offset_lost
from tidemill.shared.log.records import Records, StateEntry, TopicPartition
from tidemill.shared.runner.dead_letters import DeadLetters
from tidemill.shared.runner.ownership import standing
from tidemill.shared.runner.progress import Progress, RecordCodecPort, checkpoint_topic
from tidemill.shared.runner.progress_check import ProgressCheck
from tidemill.shared.runner.quarantine import Address, Quarantined, Withheld, given, verdict_key, without_verdicts
from tidemill.shared.runner.running_task import RunningTask
from tidemill.shared.runner.stage_topics import StageTopics
from tidemill.shared.runner.state_parts import StateParts
from tidemill.shared.runner.task import Task
from tidemill.shared.runner.topic_identity import TopicIdentities

log = logging.getLogger(__name__)


class SupersededError(Exception):
    """The assignment changed, or the process was asked to stop, while state was being restored: nothing is wrong."""


class ReplayCrashedError(Exception):
    """A task raised while it was brought back: by its checkpoint, its last progress, or the records it is given again; carries to the loop why."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def _as_crash() -> Iterator[None]:
    """Tell what a task raises from what its log does."""
    try:
        yield
    except (TransientError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:
        raise ReplayCrashedError(problem) from problem


class Restore:
    """Restores tasks, in this order: stable committed offsets, progress record and checkpoint, replay.

    Parameters
    ----------
    alive
        Called between pieces of work; raises when the assignment has changed in the meantime.
    identities
        Of the topics of this process.
    identified
        Topics whose ids the task's progress record keeps: those its state was made from, and those it writes.
    accept_torn
        Torn transactions (``stage:partition:sequence``) whose loss somebody has accepted.
    """

    def __init__(
        self,
        topics: StageTopics,
        source: Source,
        reader: Reader,
        codec: RecordCodecPort,
        dead_letters: DeadLetters,
        instance: str,
        writer: str,
        make_task: Callable[[int], Task],
        alive: Callable[[], None],
        identities: TopicIdentities,
        identified: Sequence[str],
        accept_torn: Sequence[str] = (),
    ) -> None:
        self._topics = topics
        self._source = source
        self._reader = reader
        self._codec = codec
        self._dead_letters = dead_letters
        self._instance = instance
        self._writer = writer
        self._make_task = make_task
        self._alive = alive
        self._identities, self._identified = identities, identified
        self._check = ProgressCheck(topics, reader, self._read, accept_torn)

    def restore(self, partition: int, condemned: Iterable[Address] = (), withheld: Withheld | None = None) -> RunningTask:
        """Restore one task.

        Parameters
        ----------
        condemned
            Records whose quarantine is not committed yet.
        withheld
            Offsets [begin, end) per input that are passed over, in the replay and later (a trial).

        Raises
        ------
        ReplayCrashedError
            The task does not get over its checkpoint, or over a record that was committed.
        PositionsDisagreeError, TornTransactionError, OffsetLostError
            The log does not tell one story (crash).
        TransientError
            An open transaction does not end (retry).
        """
        grouped = self._topics.grouped(partition)
        committed = self._source.committed(grouped)
        self._alive()
        fill = standing(self._reader, TopicPartition(self._topics.progress, partition), self._codec, self._alive)
        progress = self._progress(partition, fill.record)
        known = self._identities.of(self._identified, progress.topic_ids)
        if known.emptied:
            progress = replace(progress, written={place: one for place, one in progress.written.items() if place.topic not in known.emptied})
        gone = self._check.positions(partition, grouped, committed, progress)
        if gone:
            # As after a take-over from another group: all of its offsets are committed again with the next step.
            progress = replace(progress, group="")
        progress, marks = self._check.outputs(partition, progress, fill.end)
        task = self._make_task(partition)
        stale: list[bytes] = []
        parts = StateParts(self._topics.part_bytes)
        verdicts: dict[Address, None] = {}
        if progress.sequence and dict(task.versions()) != dict(progress.versions):
            versions = {"found": dict(progress.versions), "expected": dict(task.versions())}
            log.info("rebuilding: other versions", extra={"partition": partition, **versions})
            stale = self._checkpoint_keys(partition, verdicts)
            progress = replace(progress, checkpoint_marker={})
            with _as_crash():
                task.restore([])
        else:
            self._load(task, self._checkpoint_log(partition, verdicts), parts)
        with _as_crash():
            task.resume(progress.input_offsets, progress.outputs, progress.covered_offset, progress.covered_time)
            task.take_over(progress.versions)
            task.take_flows(progress.flows)
        running = RunningTask(partition, task, progress, self._topics, self._dead_letters, self._codec, self._instance, parts, stale)
        running.writer, running.end, running.recovered, running.topic_ids = self._writer, fill.end, gone, known.ids
        running.end_of, running.marks = lambda place: self._reader.watermarks(place)[1], marks
        running.unwritten = [address for address in sorted(progress.quarantined) if address not in verdicts]
        running.quarantined = Quarantined([*running.unwritten, *verdicts])
        running.withheld = withheld or {}
        self._forget(running, verdicts)
        self._replay(running, running.quarantined | condemned)
        running.stand_at(self.positions(running))
        return running

    def record_at(self, address: TopicPartition, offset: int) -> Records | None:
        """Read one record; None when the log does not hold it (any more)."""
        low, high = self._reader.watermarks(address)
        runs = [records for records in self._read(address, offset, offset + 1) if len(records)] if low <= offset < high else []
        return runs[0] if runs and int(runs[0].offsets[0]) == offset else None

    def read(self, address: TopicPartition, begin: int, end: int | None) -> Iterator[Records]:
        """Read a stretch of the log, staying in the group."""
        return self._read(address, begin, end)

    def ends(self, partition: int) -> dict[TopicPartition, int]:
        """Where the logs of a task's inputs end."""
        return {address: self._reader.watermarks(address)[1] for address in self._inputs(partition)}

    def begins(self, partition: int) -> tuple[list[tuple[TopicPartition, int, int]], dict[TopicPartition, int]]:
        """What a task is given again when it is restored, as (place, first offset, end), and where it reads on; without restoring it."""
        progress = self._progress(partition, standing(self._reader, TopicPartition(self._topics.progress, partition), self._codec).record)
        task = self._make_task(partition)
        if progress.sequence and dict(task.versions()) != dict(progress.versions):
            progress = replace(progress, checkpoint_marker={})
        running = RunningTask(partition, task, progress, self._topics, self._dead_letters, self._codec, self._instance)
        closed = [(place, begin, self._reader.watermarks(place)[1] if end is None else end) for place, begin, end in self.stretches(running)]
        return closed, self.positions(running)

    def positions(self, running: RunningTask) -> dict[TopicPartition, int]:
        """Where to read on, for every input of a task."""
        positions = {}
        for partition in self._inputs(running.partition):
            position = running.progress.input_offsets.get(partition)
            low, high = self._reader.watermarks(partition)
            if position is not None and not low <= position <= high:
                raise offset_lost(partition, self._topics.stage, position, low, high)
            positions[partition] = low if position is None else position
        return positions

    def _inputs(self, partition: int) -> list[TopicPartition]:
        return [*self._topics.grouped(partition), *self._topics.inner(partition), *self._topics.broadcast()]

    def _progress(self, partition: int, record: bytes | None) -> Progress:
        return Progress(self._topics.stage, partition, self._instance) if record is None else Progress.decode(record, self._codec)

    def _load(self, task: Task, log: Iterable[Records], parts: StateParts) -> None:
        """Hand a task its checkpoint: run by run if it takes runs, else the latest value of every key."""
        latest: dict[bytes, bytes] = {}
        for records in log:
            keys, values = parts.set_aside(records.keys, records.values)
            with _as_crash():
                taken = task.load(keys, values)
            if not taken:
                _keep_latest(latest, keys, values)
        with _as_crash():
            task.restore([*(StateEntry(key, value) for key, value in latest.items()), *parts.joined()])

    def _checkpoint_keys(self, partition: int, verdicts: dict[Address, None]) -> list[bytes]:
        latest: dict[bytes, bytes] = {}
        for records in self._checkpoint_log(partition, verdicts):
            _keep_latest(latest, records.keys, records.values)
        return list(latest)

    def _checkpoint_log(self, partition: int, verdicts: dict[Address, None]) -> Iterator[Records]:
        for records in self._read(TopicPartition(checkpoint_topic(self._topics.app, self._topics.stage), partition), 0, None):
            yield from without_verdicts(records, verdicts)

    def _forget(self, running: RunningTask, verdicts: Mapping[Address, None]) -> None:
        """Delete verdicts on records that the log does not hold any more, with the next commit."""
        lows = {TopicPartition(topic, number): 0 for topic, number, _ in verdicts}
        for place in lows:
            lows[place] = self._reader.watermarks(place)[0]
        gone = [address for address in verdicts if address[2] < lows[TopicPartition(address[0], address[1])]]
        if gone:
            running.stale_keys = [*running.stale_keys, *map(verdict_key, gone)]
            running.quarantined = Quarantined(address for address in running.quarantined if address not in set(gone))

    def _replay(self, running: RunningTask, quarantined: Quarantined) -> None:
        stretches = self.stretches(running)
        if len(stretches) == 1 or self._topics.outputs_to_restore(running.partition):
            for stretch in stretches:
                for records in self._read(*stretch):
                    self._give(running, [records], quarantined)
        elif stretches:
            # Inputs are merged by journal coordinates, so the task needs them all at once.
            self._give(running, [records for stretch in stretches for records in self._read(*stretch)], quarantined)

    def _give(self, running: RunningTask, inputs: list[Records], quarantined: Quarantined) -> None:
        with _as_crash():
            running.task.replay(given(inputs, quarantined, running.task, running.withheld))

    def stretches(self, running: RunningTask) -> list[tuple[TopicPartition, int, int | None]]:
        """What a task is given again, as (place, first offset, end); of its own outputs all there is (end None)."""
        progress = running.progress
        outputs = self._topics.outputs_to_restore(running.partition)
        if outputs:
            return [(address, self._own_memory(address, progress), None) for address in outputs]
        stretches: list[tuple[TopicPartition, int, int | None]] = []
        for address in self._inputs(running.partition):
            end = progress.input_offsets.get(address)
            if end is None:
                continue
            low, high = self._reader.watermarks(address)
            begin = progress.checkpoint_marker.get(address, low)
            if begin < min(low, end):
                raise offset_lost(address, f"the restore of {self._topics.stage}", begin, low, high, "the state would not be whole")
            if begin < end:
                stretches.append((address, begin, end))
        return stretches

    def _own_memory(self, address: TopicPartition, progress: Progress) -> int:
        """Return where an output begins that is the task's memory, after holding its end against what the task has written: each record an offset."""
        low, end = self._reader.watermarks(address)
        begin, written = progress.checkpoint_marker.get(address), progress.outputs.get(address.topic, 0)
        who, loss = f"the restore of {self._topics.stage}", "copies of what is gone would be taken for new"
        if begin is not None and not low <= begin <= end:
            raise offset_lost(address, who, begin, low, end, loss)
        if end < written:
            raise offset_lost(address, f"{who}, which has written {written} records,", written, low, end, loss)
        return low if begin is None else begin

    def _read(self, address: TopicPartition, begin: int, end: int | None) -> Iterator[Records]:
        for records in self._reader.read(address, begin, end):
            self._alive()
            yield records


def _keep_latest(latest: dict[bytes, bytes], keys: Iterable[bytes | None], values: Iterable[bytes | None]) -> None:
    for key, value in zip(keys, values, strict=True):
        if key is not None and value is not None:
            latest[key] = value
        elif key is not None:
            latest.pop(key, None)
