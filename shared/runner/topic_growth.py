"""Whether somebody has added partitions to a topic that every task reads in full: the group, which tells of others, knows nothing of those."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from tidemill.shared.log.broker import Broker


class TopicGrownError(RuntimeError):
    """A topic has more partitions than are read (crash: the process that is started next reads all of them)."""


class TopicGrowth:
    """Asks again and again how many partitions topics have, without waiting for the answer.

    Parameters
    ----------
    counts
        Partitions by topic, as they are read.
    interval_s
        From one question to the next.
    timer
        Steady seconds.
    """

    def __init__(self, broker: Broker, counts: Mapping[str, int], interval_s: float, timer: Callable[[], float]) -> None:
        self._broker, self._counts, self._interval_s, self._timer = broker, dict(counts), interval_s, timer
        self._asked: Future[Mapping[str, int]] | None = None
        self._due = timer() + interval_s

    def watch(self) -> None:
        """Ask once more when it is time, and look at an answer that has come; one that failed is asked for again an interval later.

        Raises
        ------
        TopicGrownError
            A topic has more partitions than are read.
        """
        if self._asked is not None and self._asked.done():
            asked, self._asked = self._asked, None
            # A broker that is away says nothing of its topics, and whatever else needs it waits or fails by itself.
            if asked.exception() is None:
                self._take(asked.result())
        if self._counts and self._asked is None and self._timer() >= self._due:
            self._due = self._timer() + self._interval_s
            self._asked = self._broker.partition_counts(list(self._counts))

    def _take(self, counts: Mapping[str, int]) -> None:
        added = [f"{name}:{number}" for name, count in sorted(counts.items()) for number in range(self._counts[name], count)]
        if added:
            raise TopicGrownError(
                f"somebody has added {', '.join(added)} while the stage works, and they are not read: this process ends, and the one that is"
                " started in its place reads them from their beginning"
            )
