"""Which topics a stage works on: one that was deleted and made anew has another id, whatever its name and however long its log."""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass

from tidemill.shared.log.broker import Broker, TopicRemadeError
from tidemill.shared.log.lost_offset import WAY_OUT

log = logging.getLogger(__name__)
_ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class KnownTopics:
    """What is known of the topics of one task when it is restored.

    Attributes
    ----------
    ids
        What its next progress record says of them.
    emptied
        Outputs that were made anew, and with which it goes on: what the last record says of outputs there is of the topic before.
    """

    ids: Mapping[str, str]
    emptied: frozenset[str] = frozenset()


class TopicIdentities:
    """Holds the ids of a process's topics against those that its state was made from.

    Offsets cannot tell: a log that was made anew may have grown to a reader's position, which then reads on in other records, or to where a writer's
    last outputs stood. The ids are asked for before tasks are restored, and again every `interval_s` while they run, without waiting for the answer.
    A broker whose controller is away (it has been killed, and another is not known yet) holds up no restore: what progress records say is then
    compared when the answer comes.

    Parameters
    ----------
    broker
        Knows the ids.
    topics
        What this process reads, its own memory included.
    sole, shared
        What it writes: topics that nobody else writes, and topics that others write as well, of which nothing is computed. One of those made anew
        is told, and stops nobody.
    interval_s
        From one question to the next.
    timer
        Steady seconds.
    accepted
        ``topic:id`` of topics made anew with which to go on, as somebody says: they hold the records of their predecessors at the same offsets, or
        (outputs) what they held is given up.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Iterable[str],
        interval_s: float,
        timer: Callable[[], float],
        accepted: Iterable[str] = (),
        *,
        sole: Iterable[str] = (),
        shared: Iterable[str] = (),
    ) -> None:
        self._broker = broker
        read = dict.fromkeys(topics)
        self._sole = frozenset(sole) - read.keys()
        self._shared = frozenset(shared) - self._sole - read.keys()
        self._topics = (*read, *sorted(self._sole), *sorted(self._shared))
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

    def of(self, topics: Iterable[str], recorded: Mapping[str, str]) -> KnownTopics:
        """Hold what a progress record says of topics against what there is.

        Raises
        ------
        TopicRemadeError
            They differ (crash).
        """
        names = list(topics)
        known = {topic: recorded[topic] for topic in names if topic in recorded}
        present = {topic: self._ids[topic] for topic in names if topic in self._ids}
        anew = self._hold(known, present)
        # Those of which nobody has answered yet are held against the answer.
        self._ids = {**known, **self._ids}
        return KnownTopics({**known, **present}, frozenset(anew) & (self._sole | self._shared))

    def _take(self, ids: Mapping[str, str]) -> None:
        self._hold(self._ids, ids)
        self._ids.update(ids)

    def _hold(self, expected: Mapping[str, str], ids: Mapping[str, str]) -> list[str]:
        """Return the topics that are others than expected, and with which to go on."""
        anew = [topic for topic, identity in ids.items() if expected.get(topic, identity) != identity]
        for topic in anew:
            told = {"topic": topic, "id": ids[topic]}
            if topic in self._shared:
                log.warning("an output topic was made anew: what it held is gone", extra=told)
            elif f"{topic}:{ids[topic]}" in self._accepted:
                log.warning("a topic that was made anew is taken for its predecessor, as the settings say", extra=told)
            else:
                raise TopicRemadeError(self._told(topic, expected[topic], ids[topic]))
        return anew

    def _told(self, topic: str, before: str, identity: str) -> str:
        accept = f"start with TIDEMILL_RUNNER__ACCEPT_TOPICS='[\"{topic}:{identity}\"]'"
        used = "written" if topic in self._sole else "read"
        expected = f"{topic}: expected the topic with the id {before}, which was {used} so far, found one with the id {identity}"
        if topic in self._sole:
            return (
                f"{expected}: somebody has deleted it and made it anew, and what this stage had written there is gone, for whoever reads it as well."
                " Nothing is written until somebody decides: bring the records back at their offsets (a mirror, a backup), or start the application"
                f" anew under another name. To go on with what the topic holds now, {accept}: the stages that read it have to accept it, too"
            )
        return (
            f"{expected}: somebody has deleted it and made it anew, and what stands at the old positions is something else. {WAY_OUT}. If it holds"
            f" the same records at the same offsets (a linked cluster, a backup), {accept}"
        )
