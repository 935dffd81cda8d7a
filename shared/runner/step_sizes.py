"""How large the steps of a search for a culprit are, and when it has got past the records under suspicion."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from tidemill.shared.log.records import Records
from tidemill.shared.runner.crash_log import EVERYTHING, Crash, ends_of
from tidemill.shared.runner.forked_walk import SHARE


class StepSizes:
    """Records per step of the tasks of a stage that are searched, and what they have been given since the search began or was narrowed."""

    def __init__(self) -> None:
        self._sizes: dict[int, tuple[int, int]] = {}
        self._given: dict[int, int] = {}
        # By input: records, each counted once however often it was given, and the newest offset.
        self._new: dict[int, dict[str, tuple[int, int]]] = {}
        self._reached: dict[int, dict[str, int]] = {}

    def of(self, crash: Crash) -> int:
        """Records per step of a searched task."""
        return self._sizes.get(crash.partition, (crash.limit, 0))[0]

    def set(self, partition: int, size: int) -> None:
        """Give a task steps of this size from now on."""
        self._sizes[partition] = (size, 0)

    def grow_from_one(self, partition: int) -> None:
        """Give a task steps of one record that double at once: the culprit is condemned, and what is behind it is not known."""
        self._sizes[partition] = (1, SHARE + 1)

    def reset(self, partition: int) -> None:
        """Give a task steps of the size that its crash log names."""
        self._sizes.pop(partition, None)

    def narrow(self, crash: Crash, limit: int) -> Crash:
        """Begin anew with smaller steps, or with the same ones for longer; what is known of the crash then."""
        steady = crash.steady
        if crash.searching and limit >= crash.limit:
            # The steps had grown, and the culprit came in company: a task that has not passed its inputs is given all of them again, and must come
            # to the same place before they grow. After a death nobody knows how far it had come.
            given = self._given.get(crash.partition, 0) + crash.records
            steady = max(given, 2 * steady, 2 * SHARE)
        self.forget(crash.partition)
        return replace(crash, limit=limit, steady=steady)

    def reach(self, partition: int, inputs: Sequence[Records]) -> None:
        """Take note of the offsets of a step that went well."""
        self._reached.setdefault(partition, {}).update(ends_of(inputs))

    def has_passed(self, crash: Crash) -> bool:
        """Whether a task has been given, and has survived, everything under suspicion."""
        reached = self._reached.get(crash.partition, {})
        return EVERYTHING not in crash.ends and all(reached.get(name, -1) >= end for name, end in crash.ends.items())

    def has_drained(self, crash: Crash, inner: Collection[str]) -> bool:
        """Whether a task that has read its inputs to their end was given as many records of each as the step that crashed had.

        Records of one input say nothing of another's: a stage that follows others is told of their progress without end, while the records it fell
        over wait for the next ones from Kafka.

        Parameters
        ----------
        inner
            Inputs that count, by ``topic:partition``.
        """
        counted = self._new.get(crash.partition, {})
        enough = all(counted.get(name, (0, -1))[0] >= count for name, count in crash.most.items() if name in inner)
        return EVERYTHING in crash.ends and enough

    def count_step(self, crash: Crash, inputs: Sequence[Records]) -> None:
        """Count a step of a search that went well."""
        partition = crash.partition
        size, steps = self._sizes.get(partition, (crash.limit, 0))
        steps += any(map(len, inputs))
        self._given[partition] = self._given.get(partition, 0) + sum(map(len, inputs))
        counted = self._new.setdefault(partition, {})
        for records in inputs:
            name = f"{records.topic}:{records.partition}"
            count, newest = counted.get(name, (0, -1))
            fresh = int((records.offsets > newest).sum())
            if fresh:
                counted[name] = count + fresh, int(records.offsets[-1])
        # Beyond the step that crashed there is nothing known: what is left is taken in growing steps.
        grows = steps > SHARE and self._given[partition] >= crash.steady and not crash.in_child
        self._sizes[partition] = (size * 2, steps) if grows else (size, steps)

    def forget_reached(self, partition: int) -> None:
        """Forget which offsets a task has survived: it is restored and reads them again."""
        self._reached.pop(partition, None)

    def forget(self, partition: int) -> None:
        """Forget all of a task."""
        for known in (self._sizes, self._given, self._new, self._reached):
            known.pop(partition, None)
