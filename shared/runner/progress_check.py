"""Holds a task's progress record against what else the log says: the group's offsets, and what the last step wrote."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tidemill.shared.log.broker import Reader
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.progress import Progress, checkpoint_topic
from tidemill.shared.runner.stage_topics import StageTopics
from tidemill.shared.runner.written import TornTransactionError

log = logging.getLogger(__name__)
ReadLog = Callable[[TopicPartition, int, int | None], Iterator[Records]]


class PositionsDisagreeError(RuntimeError):
    """The group's offsets are ahead of the progress record (crash): the record was lost, or somebody moved them."""


class ProgressCheck:
    """Checks the progress records of one stage before a task goes on from them.

    Parameters
    ----------
    read
        Reads a stretch of the log, as (place, first offset, end).
    accept_torn
        Torn transactions (``stage:partition:sequence``) whose loss somebody has accepted.
    """

    def __init__(self, topics: StageTopics, reader: Reader, read: ReadLog, accept_torn: Sequence[str]) -> None:
        self._topics = topics
        self._reader = reader
        self._read = read
        self._accept_torn = accept_torn

    def positions(
        self, partition: int, grouped: list[TopicPartition], committed: dict[TopicPartition, int], progress: Progress
    ) -> dict[TopicPartition, int]:
        """Hold the group's offsets against the progress record; returns those that are gone or older, which are taken from it.

        The record says what the task has done, and what it has written is held against it afterwards (`outputs`). The group's offsets are a copy, of
        which Kafka may forget the newest: a coordinator that had just loaded its log (4.1.2, after SIGKILL) had those of seven minutes before.
        """
        if progress.group not in ("", self._topics.group):
            log.info("taking over from another topology", extra={"partition": partition, "found": progress.group, "own": self._topics.group})
            return {}
        recorded = {address: progress.input_offsets[address] for address in grouped if address in progress.input_offsets}
        if any(offset > recorded.get(address, -1) for address, offset in committed.items()):
            raise PositionsDisagreeError(
                f"task {partition} of {self._topics.group}: the group has committed {_text(committed)}, but the progress record says"
                f" {_text(recorded)}; both are written by one transaction, so somebody moved the group's offsets or deleted a topic."
                " Restore the group's offsets to the progress record's, or start the stage anew with a new group and empty topics"
            )
        gone = {address: offset for address, offset in recorded.items() if address not in committed}
        if gone:
            log.error(
                "the group's offsets are gone (their retention has passed, or somebody deleted them): the progress record's are taken,"
                " and committed again with the next step. Set the broker's offsets.retention.minutes above the longest stop",
                extra={"group": self._topics.group, "partition": partition, "offsets": _text(gone)},
            )
        older = {address: offset for address, offset in recorded.items() if committed.get(address, offset) < offset}
        if older:
            log.error(
                "the group's offsets are older than the progress record's (its coordinator has forgotten the newest, or somebody moved them back):"
                " the progress record's are taken, and committed again with the next step",
                extra={"group": self._topics.group, "partition": partition, "offsets": _text(older), "found": _text(committed)},
            )
        return gone | older

    def outputs(self, partition: int, progress: Progress, recorded_to: int) -> tuple[Progress, dict[TopicPartition, int]]:
        """Hold what the log has of the task's last outputs against its progress record; also where the logs of these places end.

        The read waits for transactions that are under way, as a marker may come to one partition later than to another.
        """
        torn: dict[TopicPartition, str] = {}
        marks: dict[TopicPartition, int] = {}
        for place, written in progress.written.items():
            low, end = self._reader.watermarks(place)
            marks[place] = end
            if low > written.after:
                # Retention has passed over them: nothing is left to hold against the record.
                continue
            own = {*self._topics.inputs.sole_outputs, checkpoint_topic(self._topics.app, self._topics.stage)}
            if end < written.after and place.topic not in own:
                # No tear shortens a log: somebody has deleted what others write as well (dead letters), which nothing is computed from.
                log.warning("a topic was cut off or created anew", extra={"topic": place.topic, "partition": place.partition, "end": end})
                continue
            missing = written.missing_from(self._read(place, written.after, end)) if end > written.after else written.count
            if missing:
                torn[place] = f"of the {written.count} from offset {written.after} on {missing} are not there (the log ends at {end})"
            elif place.topic in self._topics.inputs.sole_outputs and (more := written.beyond(self._read(place, written.after, end))):
                torn[place] = f"{more} more than the {written.count} from offset {written.after} on"
        if not torn:
            return progress, marks
        record = TopicPartition(self._topics.progress, partition)
        if self._reader.watermarks(record)[1] != recorded_to:
            raise TransientError(f"{record.topic}:{partition}: somebody has written for the task since its progress was read")
        name = f"{self._topics.stage}:{partition}:{progress.sequence}"
        text = "; ".join(f"{topic}:{number}: {what}" for (topic, number), what in sorted(torn.items()))
        if name not in self._accept_torn:
            raise TornTransactionError(
                f"task {partition} of {self._topics.group}: expected the outputs that its progress record {progress.sequence} tells of, found {text}."
                " One transaction writes all of it, so it was torn (or a topic was cut off or created anew). What reads these outputs lacks them:"
                f" find out why, then start with TIDEMILL_RUNNER__ACCEPT_TORN='[\"{name}\"]' to go on without them"
            )
        log.error("a torn transaction is accepted, as the settings say", extra={"transaction": name, "found": text})
        return replace(progress, written={place: one for place, one in progress.written.items() if place not in torn}), marks


def _text(offsets: dict[TopicPartition, int]) -> dict[str, int]:
    return {f"{topic}:{partition}": offset for (topic, partition), offset in sorted(offsets.items())}
