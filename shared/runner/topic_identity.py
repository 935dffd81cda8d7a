"""Which topics a stage works on: one that was deleted and made anew has another id, whatever its name and however long its log."""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait

from tidemill.shared.log.broker import Broker, TopicRemadeError
from tidemill.shared.log.lost_offset import WAY_OUT

log = logging.getLogger(__name__)
_ANSWER_S = 2.0


class TopicIdentities:
    """Holds the ids of a process's topics against those that its state was made from.

    Offsets cannot tell: a log that was made anew may have grown to a reader's position, which then reads on in other records. The ids are asked for
    before tasks are restored, and again every `interval_s` while they run, without waiting for the answer. A broker whose controller is away (it has
    been killed, and another is not known yet) holds up no restore: what progress records say is then compared when the answer comes.

    Parameters
    ----------
    broker
        Knows the ids.
    topics
        What this process reads, its own memory included.
    interval_s
        From one question to the next.
    timer
        Steady seconds.
    accepted
        ``topic:id`` of topics that hold the records of their predecessors at the same offsets, as somebody says.
    """

    def __init__(self, broker: Broker, topics: Iterable[str], interval_s: float, timer: Callable[[], float], accepted: Iterable[str] = ()) -> None:
        self._broker = broker
        self._topics = tuple(dict.fromkeys(topics))
        self._interval_s = interval_s
        self._timer = timer
        self._accepted = frozenset(accepted)
        self._asked: Future[Mapping[str, str]] | None = None
        self._due = 0.0
        self._ids: dict[str, str] = {}

    def look(self) -> None:
        """Ask for the ids, before state is restored, and wait for the answer for a short time.

        Raises
        ------
        TopicRemadeError
            A topic is not the one that this process has read before (crash).
        """
        self._asked = self._broker.topic_ids(self._topics)
        self._due = self._timer() + self._interval_s
        wait([self._asked], _ANSWER_S)
        self.watch()

    def watch(self) -> None:
        """Ask once more when it is time, and look at an answer that has come; one that failed is asked for again an interval later.

        Raises
        ------
        TopicRemadeError
            A topic is not the one that this process has read so far (crash).
        """
        if self._asked is not None and self._asked.done():
            asked, self._asked = self._asked, None
            # A broker that is away says nothing of its topics, and whatever else needs it waits or fails by itself.
            if asked.exception() is None:
                self._take(asked.result())
        if self._asked is None and self._timer() >= self._due:
            self._due = self._timer() + self._interval_s
            self._asked = self._broker.topic_ids(self._topics)

    def of(self, topics: Iterable[str], recorded: Mapping[str, str]) -> dict[str, str]:
        """Hold what a progress record says of topics against what there is; returns what the next one is to say.

        Raises
        ------
        TopicRemadeError
            They differ (crash).
        """
        known = {topic: recorded[topic] for topic in topics if topic in recorded}
        present = {topic: self._ids[topic] for topic in topics if topic in self._ids}
        self._hold(known, present)
        # Those of which nobody has answered yet are held against the answer.
        self._ids = {**known, **self._ids}
        return {**known, **present}

    def _take(self, ids: Mapping[str, str]) -> None:
        self._hold(self._ids, ids)
        self._ids.update(ids)

    def _hold(self, expected: Mapping[str, str], ids: Mapping[str, str]) -> None:
        for topic, identity in ids.items():
            before = expected.get(topic, identity)
            if before == identity:
                continue
            if f"{topic}:{identity}" not in self._accepted:
                raise TopicRemadeError(
                    f"{topic}: expected the topic with the id {before}, which was read so far, found one with the id {identity}: somebody has"
                    f" deleted it and made it anew, and what stands at the old positions is something else. {WAY_OUT}. If it holds the same records"
                    f" at the same offsets (a linked cluster, a backup), start with TIDEMILL_RUNNER__ACCEPT_TOPICS='[\"{topic}:{identity}\"]'"
                )
            log.warning("a topic that was made anew is taken for its predecessor, as the settings say", extra={"topic": topic, "id": identity})
