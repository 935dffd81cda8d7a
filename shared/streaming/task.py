"""The contract between the runner and a service: one task is one service on one partition."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from shared.streaming.records import Checkpoint, Emission, Records, StateEntry, Step, TopicPartition


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
        The process was asked to stop: what a task `Buffers` is to be made durable once there is no more input.
    """

    now_ms: int
    caught_up: Set[TopicPartition] = frozenset()
    steady_ms: int | None = None
    output_ends: Mapping[TopicPartition, int] = field(default_factory=dict)
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """Where a task's records come from.

    Attributes
    ----------
    partitioned
        Topics of which task p reads partition p (through the consumer group).
    broadcast
        Topics every task reads in full (assigned by hand; offsets live in the progress record only).
    restores_from_outputs
        Topics of the task's own outputs, read to their end before the first step (ingestion); else the inputs are replayed.
    gathered
        True when the stage has one task only, which reads *all* partitions of the `partitioned` topics (drift, retraining).
    """

    partitioned: tuple[str, ...]
    broadcast: tuple[str, ...] = ()
    restores_from_outputs: tuple[str, ...] = ()
    gathered: bool = False


class Task(Protocol):
    """One service on one partition. A task does no Kafka I/O: it turns records into a step."""

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the compacted checkpoint (latest value of every key; called once, possibly with nothing; see also `LoadsRuns`)."""
        ...

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Learn from the last progress record where the previous incarnation stood (called once, after `restore`)."""
        ...

    def replay(self, inputs: Sequence[Records]) -> None:
        """Apply records between the checkpoint's marker and the committed position again, without output."""
        ...

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Turn a batch into a step. Also called with no input, so that ticks and switches happen when idle."""
        ...

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Hand out about `budget_bytes` of dirty state and the replay marker."""
        ...

    def committed(self) -> None:
        """Do idempotent external writes (Redis, lake); raises TransientError to have the call retried before the next step."""
        ...

    def versions(self) -> Mapping[str, str]:
        """Code, application and view versions recorded in the progress record; other versions than the checkpoint's mean rebuild."""
        ...


@runtime_checkable
class Buffers(Protocol):
    """A task that keeps what it has read until there is enough of it: before its process stops it reads on to the end and writes all."""

    @property
    def buffered(self) -> int:
        """Records that are read and not written."""
        ...


@runtime_checkable
class LoadsRuns(Protocol):
    """A task with much state, which takes its checkpoint as it is read, without an object for each entry."""

    def load(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Take a run of the checkpoint's log: a later entry of a key replaces an earlier one, one without a value deletes it.

        Called any number of times, then `restore` once, with the entries that were too large for one record (mostly none).
        """
        ...


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A verdict of the runner: this input record crashed the task three times and is skipped from now on."""

    topic: str
    partition: int
    offset: int
    reason: str
    emissions: Sequence[Emission] = field(default_factory=tuple)
