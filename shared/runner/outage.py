"""Which records a stage has to get past before a server that was away counts as back."""

from collections.abc import Callable, Iterable, Mapping

from tidemill.shared.log.records import Records, TopicPartition


class Outage:
    """Remembers what the step was given that a server's absence undid.

    The stage starts over after such a step, and its next steps may be given nothing yet, or other records: they say nothing of the server. Without
    this memory the stage would be ready, and wait no longer than after a first error, between any two tries.
    """

    def __init__(self) -> None:
        self._given: dict[TopicPartition, int] = {}
        self._missed: dict[TopicPartition, int] = {}

    def begin_step(self) -> None:
        """Begin with a step that is given nothing."""
        self._given = {}

    def give(self, inputs: Iterable[Records]) -> None:
        """Take note of what the step is given."""
        for records in inputs:
            if len(records):
                place = TopicPartition(records.topic, records.partition)
                self._given[place] = max(self._given.get(place, 0), int(records.offsets[-1]) + 1)

    def undo_step(self) -> None:
        """Take note that a server was away for the step."""
        for place, end in self._given.items():
            self._missed[place] = max(self._missed.get(place, 0), end)

    def is_over(self, positions: Callable[[], Mapping[TopicPartition, int]]) -> bool:
        """Return whether the tasks have got past all that they missed; what nobody here reads any more is somebody else's.

        Parameters
        ----------
        positions
            How far the tasks have been given their inputs. Called only while something is missed: it goes through the inputs of all tasks.
        """
        if self._missed:
            reached = positions()
            self._missed = {place: end for place, end in self._missed.items() if reached.get(place, end) < end}
        return not self._missed
