"""What all tasks have in common that merge their inputs by journal coordinates."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.log.records import Coverage, Records, TopicPartition
from tidemill.shared.merge.merge import Merge, MergeInput, Released
from tidemill.shared.runner.progress import Progress, RecordCodecPort
from tidemill.shared.runner.task import Task


class MergingTask(Task):
    """A task whose inputs are merged: it follows them in one order and never passes what the stages before it have covered.

    A subclass says what a run of records adds to the merge (`take`) and folds what the merge lets go: in `process`, and in `refold` what
    earlier steps had been let go, whose output is written already. A `process` begins with `finish_replay` and `read`, works on
    `merge.release()`, and ends with `cover`; a `checkpoint` begins with `finish_replay`.

    Parameters
    ----------
    inputs
        Of the merge.
    progress
        Codecs of the progress topics that are read, by topic.

    Attributes
    ----------
    merge
        Positions, counts and rows held back.
    coverage
        Journal coordinates passed so far.
    replaying
        Something may be left to `refold` before the next step.
    """

    def __init__(self, inputs: Sequence[MergeInput], progress: Mapping[str, RecordCodecPort]) -> None:
        self.merge = Merge(inputs)
        self.coverage = Coverage()
        self.replaying = False
        self._merged = frozenset(entry.topic for entry in inputs)
        self._progress_codecs = dict(progress)

    @abstractmethod
    def take(self, records: Records) -> None:
        """Add a run of records (never empty, of no progress topic) to the merge, or to what the task knows beside it."""

    @abstractmethod
    def refold(self, released: Released) -> None:
        """Fold again, without output, what had been released between the checkpoint and the last commit."""

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Stand where the last progress record stood."""
        known = self._merged | self._progress_codecs.keys()
        self.merge.resume({place: offset for place, offset in positions.items() if place.topic in known})
        self.coverage = Coverage(coverage_offset, coverage_time_ms)

    def replay(self, inputs: Sequence[Records]) -> None:
        """Collect what had been released since the checkpoint; it is folded, in order, before the next step."""
        self.replaying = True
        self.read(inputs)

    def skipped(self, topic: str, partition: int, offsets: NDArray[np.int64]) -> None:
        """Count records that were quarantined, so that the merge does not wait for them."""
        if topic in self._merged:
            self.merge.skip(topic, partition, offsets)

    def finish_replay(self) -> None:
        """Fold what was collected, if this has not been done since the last replay."""
        if self.replaying:
            self.refold(self.merge.drain())
            self.replaying = False

    def read(self, inputs: Sequence[Records]) -> None:
        """Take a step's inputs, and learn how far the stages before this one have come."""
        for records in inputs:
            if not len(records):
                continue
            codec = self._progress_codecs.get(records.topic)
            if codec is None:
                self.take(records)
                continue
            for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
                # One without a value is a claim, which says nothing of it.
                if value is not None:
                    self.merge.watermark(records.topic, records.partition, offset, Progress.decode(value, codec))

    def cover(self) -> None:
        """Let the coverage grow to what the merge has passed; it never falls."""
        covered = self.merge.coverage()
        if (covered.time_ms, covered.offset) > (self.coverage.time_ms, self.coverage.offset):
            self.coverage = covered


def decoded(decoder: ColumnDecoder, records: Records, stage: str) -> pa.RecordBatch:
    """Decode records that another stage wrote.

    Raises
    ------
    ValueError
        One is not readable (crash): a bug of that stage, or somebody else has written to its topic.
    """
    if isinstance(records.columns, pa.RecordBatch) and records.columns.schema == decoder.arrow:
        return records.columns
    columns = decoder.decode(records.values)
    if columns.errors:
        first = columns.errors[0]
        where = f"{records.topic}:{records.partition} offset {records.offsets[first.index]}"
        raise ValueError(f"expected a record that {stage} wrote at {where}, got {first.reason}: {first.detail}")
    return columns.batch
