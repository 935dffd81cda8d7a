"""The contract between the runner and a service: one task is one service on one partition."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.log.flow import Flow
from tidemill.shared.log.records import Checkpoint, Records, StateEntry, Step, TopicPartition


@dataclass(frozen=True, slots=True)
class StepContext:
    """What the shell knows and a core may not ask for.

    Attributes
    ----------
    now_ms
        Processing time of this step (only ingestion may let it into the data).
    caught_up
        Inputs whose end the consumer has reached (partition EOF) with nothing read since.
    steady_ms
        Time since some instant by a clock that nobody sets (it goes on while the machine sleeps); None where processing time is made up.
    output_ends
        Where the logs end that the stage restores from (`TaskInputs.restores_from_outputs`), before this step.
    stopping
        The process was asked to stop: what a task keeps (`Task.buffered`) is to be written once there is no more input.
    """

    now_ms: int
    caught_up: Set[TopicPartition] = frozenset()
    steady_ms: int | None = None
    output_ends: Mapping[TopicPartition, int] = field(default_factory=dict)
    stopping: bool = False

    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since some instant: what waits are measured by, so that nobody who sets the host's clock makes one last for hours."""
        return self.now_ms if self.steady_ms is None else self.steady_ms


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """Where a task's records come from, and where they go.

    Attributes
    ----------
    partitioned
        Topics of which task p reads partition p (through the consumer group).
    broadcast
        Topics every task reads in full (assigned by hand; offsets live in the progress record only).
    read_first
        Those of `broadcast` that a task reads to their end, as it stands when the task is restored, before it is given anything else: what decides
        how its other inputs are answered (who serves). Not for inputs that the task puts in order itself: it would hold all of them back meanwhile.
    restores_from_outputs
        Topics of the task's own outputs, read to their end before the first step (ingestion); else the inputs are replayed.
    gathered
        True when the stage has one task only, which reads *all* partitions of the `partitioned` topics (drift, retraining).
    sole_outputs
        Topics of which nobody but task p writes partition p: a record there that its progress does not tell of comes of a torn transaction.
    other_outputs
        What it writes besides.
    """

    partitioned: tuple[str, ...]
    broadcast: tuple[str, ...] = ()
    read_first: tuple[str, ...] = ()
    restores_from_outputs: tuple[str, ...] = ()
    gathered: bool = False
    sole_outputs: tuple[str, ...] = ()
    other_outputs: tuple[str, ...] = ()

    @property
    def outputs(self) -> frozenset[str]:
        """All topics that a step may write to, dead letters (and the runner's own, progress and checkpoint) excepted."""
        return frozenset((*self.sole_outputs, *self.other_outputs))


class Task(ABC):
    """One service on one partition. A task does no Kafka I/O: it turns records into a step.

    The runner calls, in this order: `versions`; `load` for each run of the checkpoint's log and `restore` once; `resume`, `take_over` and
    `take_flows`; `replay`, as often as there is something to replay; then, for as long as the task has its partition, `process`, `checkpoint`
    in the same transaction when a share is due, and `committed` after each commit. `skipped` comes before the `replay` or `process` whose
    records it is about.

    What every task has to answer is abstract. The other methods do nothing by default.
    """

    def load(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> bool:
        """Take a run of the checkpoint's log as it is read, without an object for each entry: for a task with much state.

        A later entry of a key replaces an earlier one, one without a value deletes it. A task takes all runs or none.

        Returns
        -------
        bool
            Whether the run was taken. What is not is handed to `restore`; of what is, only entries that were too large for one record
            (mostly none). By default False.
        """
        return False

    @abstractmethod
    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the compacted checkpoint (latest value of every key; called once, possibly with nothing; see also `load`)."""

    @abstractmethod
    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Learn from the last progress record where the previous incarnation stood (called once, after `restore`)."""

    def take_over(self, before: Mapping[str, str]) -> None:  # noqa: B027 - most tasks need not know
        """Learn which versions the last progress record names (nothing at the very first start)."""

    def take_flows(self, flows: Mapping[str, Flow]) -> None:  # noqa: B027 - most tasks do not tell their inputs apart
        """Learn what the last progress record says of each input topic (`Step.flows`)."""

    @abstractmethod
    def replay(self, inputs: Sequence[Records]) -> None:
        """Apply records between the checkpoint's marker and the committed position again, without output."""

    def skipped(self, topic: str, partition: int, offsets: NDArray[np.int64]) -> None:  # noqa: B027 - only a task that counts records must know
        """Learn of records that were quarantined: they are not among the inputs that follow.

        Parameters
        ----------
        offsets : int64 array, shape (n,)
            Their offsets, rising.
        """

    @abstractmethod
    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Turn a batch into a step. Also called with no input, so that ticks and switches happen when idle."""

    @abstractmethod
    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Hand out about `budget_bytes` of dirty state and the replay marker."""

    def committed(self) -> None:  # noqa: B027 - most tasks write nothing outside of Kafka
        """Do idempotent external writes (Redis, lake); raises TransientError to have the call retried before the next step."""

    @property
    def buffered(self) -> int | None:
        """Records that are read and not written yet; None (default) where a step writes all that it reads.

        A task with a buffer reads on to the end and writes all before its process stops (`StepContext.stopping`).
        """
        return None

    @abstractmethod
    def versions(self) -> Mapping[str, str]:
        """Code, application and view versions recorded in the progress record; other versions than the checkpoint's mean rebuild."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as its service declares it.

    Attributes
    ----------
    name
        Of its group, its progress topic and its checkpoint topic, after the application's.
    inputs
        What its tasks read.
    task
        Makes task p, empty.
    """

    name: str
    inputs: TaskInputs
    task: Callable[[int], Task]
