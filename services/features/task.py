"""Features as a task: the journal in, one vector per asking event out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tidemill.services.features.domain.core import FeaturesCore
from tidemill.services.features.online import OnlineWriter
from tidemill.shared.application.journal import JournalBatch, JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.view_version import feature_versions, view_version
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.packed import taken
from tidemill.shared.log.records import Checkpoint, Coverage, Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.runner.task import StepContext, Task, TaskInputs
from tidemill.shared.version import CODE_VERSION

# Changes with the layout of the blobs, or where older ones may lack something: what they hold is not read but made again from the journal.
STATE_VERSION = "6"


def task_inputs(plan: Plan) -> TaskInputs:
    """Where features' records come from."""
    return TaskInputs((plan.topics.journal,), sole_outputs=(plan.topics.vectors,), other_outputs=(plan.topics.view_switches,))


class FeaturesTask(Task):
    """One journal partition's feature state.

    Parameters
    ----------
    online
        Takes the features of touched entities to the online store between steps; None (audit, tests) for nowhere.
    spill_folder
        Where tables that may outgrow memory lie.
    """

    def __init__(
        self, plan: Plan, registry: SchemaRegistry, partition: int, online: OnlineWriter | None = None, spill_folder: Path | None = None
    ) -> None:
        self._plan = plan
        self._journal = TopicPartition(plan.topics.journal, partition)
        self._decoder = JournalDecoder(plan, registry)
        self._encoder = ColumnEncoder(registry, f"{plan.topics.vectors}-tidemill.{plan.application.app.replace('-', '_')}.Vector", plan.vector_schema)
        self._core = FeaturesCore(plan, followed=online is not None, spill_folder=spill_folder)
        self._asking = np.array([plan.streams[name].index for name in plan.asking_streams], np.int16)
        self._coverage = Coverage()
        self._online = online
        self._versions = {"code": CODE_VERSION, "state": STATE_VERSION, "application": plan.application_hash, "views": view_version(plan)}
        self._switches = message_codec(registry, plan.topics.view_switches, "view-switch")
        self._switch: Emission | None = None

    def load(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> bool:
        """Take a run of blobs."""
        self._core.load(keys, values)
        return True

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the blobs."""
        self._core.restore(entries)

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Take up the coverage of the last progress record."""
        self._coverage = Coverage(coverage_offset, coverage_time_ms)
        if self._online is not None:
            self._online.resume(coverage_offset)

    def take_over(self, before: Mapping[str, str]) -> None:
        """Mark where vectors begin to follow these views, if others or another application were at work: with the first outputs, in one transaction.

        Another application with the same views is marked too: from there on its models answer, which an audit has to know.
        """
        version = self._versions["views"]
        if before.get("views") == version and before.get("application") == self._versions["application"]:
            return
        mark = {
            "journal_partition": self._journal.partition,
            "journal_offset": self._coverage.offset,
            "journal_time": max(0, self._coverage.time_ms),
            "view_version": version,
            "previous": before.get("views", ""),
            "features": dict(feature_versions(self._plan)),
            "application_hash": self._plan.application_hash,
            "code_version": CODE_VERSION,
        }
        key = str(self._journal.partition).encode()
        self._switch = Emission(self._plan.topics.view_switches, self._journal.partition, [key], [self._switches.encode(mark)])

    def replay(self, inputs: Sequence[Records]) -> None:
        """Make restored state whole."""
        for records in inputs:
            self._core.replay(self._decoder.decode(records))

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Fold a run of the journal."""
        if not any(len(records) for records in inputs):
            self._follow()
        emissions = [self._switch] if self._switch is not None else []
        for records in inputs:
            if not len(records):
                continue
            batch = self._decoder.decode(records)
            vectors = self._core.process(batch)
            self._coverage = Coverage(int(batch.offsets[-1]) + 1, int(batch.journal_time_ms[-1]))
            if vectors.num_rows:
                emissions.append(
                    Emission(self._plan.topics.vectors, self._journal.partition, self._keys(batch), self._encoder.encode(vectors), columns=vectors)
                )
        return Step(emissions, {self._journal: self._coverage.offset}, self._coverage)

    def _keys(self, batch: JournalBatch) -> Sequence[bytes | None]:
        """Keys of the asking events."""
        asks = np.flatnonzero(np.isin(batch.stream_index, self._asking))
        return taken(batch.keys, asks)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Write a share of the changed state."""
        entries = self._core.take_dirty(budget_bytes)
        oldest = self._core.oldest_dirty_offset
        return Checkpoint(entries, {self._journal: self._coverage.offset if oldest is None else oldest})

    def committed(self) -> None:
        """Let the online store follow what is committed."""
        self._switch = None
        self._follow()

    def _follow(self) -> None:
        """Nothing is folded that is not committed: after a commit, and when there is no input."""
        if self._online is not None:
            self._online.flush(self._core, self._coverage.offset, self._coverage.time_ms)

    def versions(self) -> Mapping[str, str]:
        """Code, form of the state, application, and version of the views."""
        return self._versions
