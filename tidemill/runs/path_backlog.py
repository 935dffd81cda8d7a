"""What waits between the stages of the prediction path, and which application was at work there."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.runner.ownership import standing
from tidemill.shared.runner.progress import Progress

T = TypeVar("T")
_APPLICATION = "application"


class PathBacklog:
    """Reads progress records, and whether features and scoring have more to read than these name.

    Nothing is held between two questions but a reader: the answers are those of the broker at that moment. Committed records count; a transaction
    that is open is waited for, as it may have been somebody's last words.

    Parameters
    ----------
    plan
        Any of the run's applications: names of topics and number of partitions are the same in all of them.

    Attributes
    ----------
    stages
        Those that read what the one before has written; ingestion reads what users write.
    """

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry) -> None:
        topics = plan.topics
        self._reader = broker.reader()
        self._partitions = range(plan.application.partitions)
        self._inputs = {"features": topics.journal, "scoring": topics.vectors}
        self._progress = {stage: topics.progress(stage) for stage in self._inputs}
        self.stages = frozenset(self._inputs)
        self._codecs = {stage: message_codec(registry, topic, "progress") for stage, topic in self._progress.items()}

    def waits(self, stage: str) -> bool:
        """Whether a stage has not covered all that the one before has written.

        Raises
        ------
        TransientError
            A transaction does not end, or the broker does not answer now (retry).
        """
        return any(self._has_more(stage, partition) for partition in self._partitions)

    def applications(self, stage: str) -> frozenset[str]:
        """Return the hashes of the applications with which a stage has committed last, over its partitions; without those that have none.

        Raises
        ------
        TransientError
            As `waits`.
        """
        standing = [self._standing(stage, partition) for partition in self._partitions]
        return frozenset(one.versions[_APPLICATION] for one in standing if one is not None and _APPLICATION in one.versions)

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()

    def _has_more(self, stage: str, partition: int) -> bool:
        place, progress = TopicPartition(self._inputs[stage], partition), self._standing(stage, partition)
        begin = progress.input_offsets.get(place, 0) if progress is not None else 0
        # Records that were set aside move no position of a task.
        set_aside = [offset for topic, number, offset in (progress.quarantined if progress is not None else ()) if (topic, number) == place]
        return any(not np.isin(records.offsets, set_aside).all() for records in self._reader.read(place, begin))

    def _standing(self, stage: str, partition: int) -> Progress | None:
        record = standing(self._reader, TopicPartition(self._progress[stage], partition), self._codecs[stage]).record
        return None if record is None else Progress.decode(record, self._codecs[stage])


def former_application(backlog: PathBacklog, present: str) -> str | None:
    """Return the application by which a run has to answer what waits on the path before it is given another one.

    Features makes a vector as its application says, and scoring answers it as its own says. Both have to be the same for every request: the audit
    knows one mark for the two. None where nothing waits, or nothing of another application.

    Parameters
    ----------
    present
        Hash of the application that the run is to have.
    """
    others = backlog.applications("features") - {present}
    # Several were left by a version that knew no such rule; what they left is answered by one of them.
    return min(others) if others and (backlog.waits("features") or backlog.waits("scoring")) else None


def patiently(ask: Callable[[], T], look: Callable[[], None]) -> T:
    """Ask until there is an answer: a transaction may be open, or a leader away. `look` is called between two questions, and may end it."""
    while True:
        try:
            return ask()
        except TransientError:
            look()


def answer_what_waits(backlog: PathBacklog, stage: str, look: Callable[[], None]) -> None:
    """Return when a stage has covered all that was written for it, while those before it stand still; `look` is called between two questions."""
    while patiently(lambda: backlog.waits(stage), look):
        look()
