"""The records that pass between a broker, the runner and a task: parallel columns, never one object per record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.log.flow import Flow


class TopicPartition(NamedTuple):
    """Address of one ordered log."""

    topic: str
    partition: int


class Columns(Protocol):
    """Rows of a run of records, decoded: whoever reads them knows of what kind they are and decodes the records if it is another."""

    def __getitem__(self, rows: slice, /) -> Self:
        """Some of the rows, neighbours."""
        ...


@dataclass(frozen=True, slots=True)
class Records:
    """A run of records of one topic partition, in offset order.

    Attributes
    ----------
    offsets : int64 array, shape (n,)
    timestamps_ms : int64 array, shape (n,)
        Kafka record timestamps: the instant of availability.
    keys, values : sequences of n items
        Raw bytes; packed (`tidemill.shared.log.packed`) or a list.
        A null value in a raw topic is a heartbeat: nothing older than its timestamp will follow in this partition.
    columns
        What the values were encoded from, sliceable by rows, if the stage that wrote them runs in this process (`Emission.columns`).
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    columns: Columns | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> "Records":
        if rows.indices(len(self)) == (0, len(self), 1):
            return self
        columns = None if self.columns is None else self.columns[rows]
        return Records(self.topic, self.partition, self.offsets[rows], self.timestamps_ms[rows], self.keys[rows], self.values[rows], columns)


@dataclass(frozen=True, slots=True)
class Emission:
    """Records to produce, in order, to one topic partition, inside the step's transaction.

    Attributes
    ----------
    first_offset
        Offset the first record must get, the others following without a gap; a transaction in which they do not is refused. None: any.
    columns
        What the values were encoded from: a stage that reads them in the same process need not decode them. None: nothing is handed on.
    """

    topic: str
    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_ms: NDArray[np.int64] | None = None
    first_offset: int | None = None
    columns: Columns | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far into one journal partition a stage has come: every record below `offset` and every instant up to `time_ms`."""

    offset: int = 0
    time_ms: int = -1


@dataclass(frozen=True, slots=True)
class Step:
    """What a task made of one batch of inputs.

    Attributes
    ----------
    emissions
        Outputs in order.
    positions
        Next offset to read per input whose earlier records are all absorbed. Records a merge still holds back are not
        counted: after a restart they are read again.
    coverage
        Journal coordinates this task has covered after the step.
    deployment_sequence
        Last deployment applied (scoring), else -1.
    flagged
        Accepted records that something was noticed of, by (stream, what): counted once the step is committed.
    flows
        By input topic, what the task knows of it; None: the task does not tell its inputs apart.
    """

    emissions: Sequence[Emission]
    positions: Mapping[TopicPartition, int]
    coverage: Coverage
    deployment_sequence: int = -1
    flagged: Mapping[tuple[str, str], int] = field(default_factory=dict)
    flows: Mapping[str, Flow] | None = None


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One checkpoint blob: an opaque key and value of the task's own making; a null value deletes the key."""

    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A share of the dirty state and the input offsets from which a replay must start to complete the checkpoint topic."""

    entries: Sequence[StateEntry] = ()
    marker: Mapping[TopicPartition, int] = field(default_factory=dict)
