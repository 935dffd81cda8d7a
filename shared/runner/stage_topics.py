"""Which task reads what: the stage's inputs laid out over partitions."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tidemill.shared.log.broker import Assignment, Broker
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.runner.letter_size import LEAST_LIMIT_BYTES
from tidemill.shared.runner.progress import checkpoint_topic, progress_topic
from tidemill.shared.runner.state_parts import PART_BYTES
from tidemill.shared.runner.task import TaskInputs


class TopicMismatchError(RuntimeError):
    """Topics are missing or do not have the expected number of partitions (crash, before the first record)."""


def require_room(topic: str, takes: int, needs: int, why: str) -> None:
    """Raise TopicMismatchError unless a topic takes records of so many bytes."""
    if takes < needs:
        raise TopicMismatchError(
            f"{topic}: expected a topic that takes records of {needs:,} bytes ({why}), this one takes {takes:,}; raise its max.message.bytes"
        )


@dataclass(frozen=True, slots=True)
class StageTopics:
    """Inputs of a stage over its tasks.

    The member that owns partition p of the first partitioned topic runs task p (task 0 when the stage is gathered).

    Attributes
    ----------
    leader
        Stage whose group decides when this one follows another in its process (`tidemill.shared.runner.chain`); its partitioned inputs are then
        written by the stages before it, and no group commits their offsets.
    part_bytes
        Into parts of what size an entry of the checkpoint is cut: half of what its topic takes at most, as keys come on top.
    """

    app: str
    stage: str
    inputs: TaskInputs
    partitions: int
    counts: dict[str, int] = field(default_factory=dict)
    leader: str | None = None
    part_bytes: int = PART_BYTES

    @classmethod
    def of(cls, app: str, stage: str, inputs: TaskInputs, partitions: int, broker: Broker, leader: str | None = None) -> "StageTopics":
        """Look the topics up and check them."""
        if not inputs.partitioned:
            raise TopicMismatchError(f"stage {stage}: expected at least one partitioned input, whose assignment says who runs a task")
        names = [*inputs.partitioned, *inputs.broadcast, *inputs.restores_from_outputs, progress_topic(app, stage), checkpoint_topic(app, stage)]
        counts = {name: broker.partitions(name) for name in dict.fromkeys(names)}
        missing = [name for name, count in counts.items() if not count]
        if missing:
            raise TopicMismatchError(f"stage {stage}: there is no topic {', '.join(missing)}; create the application's topics first")
        expected = {name: partitions for name in counts if name not in inputs.broadcast and not inputs.gathered}
        wrong = [f"{name} has {counts[name]}" for name, count in expected.items() if counts[name] != count]
        if wrong:
            raise TopicMismatchError(f"stage {stage}: expected {partitions} partitions everywhere, but {', '.join(wrong)}")
        takes = broker.max_message_bytes(checkpoint_topic(app, stage))
        require_room(checkpoint_topic(app, stage), takes, LEAST_LIMIT_BYTES, "the state is written there in parts")
        return cls(app, stage, inputs, partitions, counts, leader, min(PART_BYTES, takes // 2))

    @property
    def group(self) -> str:
        """Consumer group."""
        return f"{self.app}-{self.leader or self.stage}"

    @property
    def identified(self) -> list[str]:
        """Topics that the state depends on: inputs and the task's own memory."""
        own = checkpoint_topic(self.app, self.stage)
        return list(dict.fromkeys([*self.inputs.partitioned, *self.inputs.broadcast, *self.inputs.restores_from_outputs, own]))

    @property
    def progress(self) -> str:
        """Topic of the stage's progress records."""
        return progress_topic(self.app, self.stage)

    def owned(self, assignment: Assignment) -> list[int]:
        """Tasks of the member with this assignment.

        Raises
        ------
        TopicMismatchError
            Somebody has added partitions to an input: keys go to others than their state is in, and nobody reads the new ones.
        """
        added = sorted(f"{name}:{number}" for name, number in assignment.partitions if number >= self.counts.get(name, number + 1))
        if added:
            raise TopicMismatchError(
                f"stage {self.stage}: somebody has added {', '.join(added)} while the stage works; the application has {self.partitions} partitions"
                " (`partitions`), and keys go to others now than their state is in. Make the topic anew with as many and publish again what it holds,"
                " or begin a new application with more"
            )
        lead = sorted(partition.partition for partition in assignment.partitions if partition.topic == self.inputs.partitioned[0])
        return [number for number in lead if number == 0] if self.inputs.gathered else lead

    def grouped(self, task: int) -> list[TopicPartition]:
        """Inputs whose offsets the group commits."""
        if self.leader is not None:
            return []
        if self.inputs.gathered:
            return [TopicPartition(topic, number) for topic in self.inputs.partitioned for number in range(self.counts[topic])]
        return [TopicPartition(topic, task) for topic in self.inputs.partitioned]

    def inner(self, task: int) -> list[TopicPartition]:
        """Inputs that stages before this one write in the same transaction."""
        return [] if self.leader is None else [TopicPartition(topic, task) for topic in self.inputs.partitioned]

    def broadcast(self) -> list[TopicPartition]:
        """Inputs every task reads in full."""
        return [TopicPartition(topic, number) for topic in self.inputs.broadcast for number in range(self.counts[topic])]

    def read_first(self) -> list[TopicPartition]:
        """Broadcast inputs that are read to their end before anything else."""
        return [place for place in self.broadcast() if place.topic in self.inputs.read_first]

    def outputs_to_restore(self, task: int) -> list[TopicPartition]:
        """Own outputs that hold the task's state."""
        return [TopicPartition(topic, task) for topic in self.inputs.restores_from_outputs]

    def readers(self, partition: TopicPartition, tasks: Iterable[int]) -> list[int]:
        """Tasks that read a topic partition."""
        if partition.topic in self.inputs.broadcast:
            return list(tasks)
        return [0] if self.inputs.gathered else [partition.partition]
