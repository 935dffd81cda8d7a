"""What becomes of a command, read from control's decisions and the lifecycle log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.services.retraining.domain.lifecycle_commands import obey
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.models.deployments import Lifecycle


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a command was followed, and what was done or why nothing was, in words."""

    followed: bool
    text: str


class CommandAnswers:
    """Follows the two topics from where they end now; make one before the command is sent."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry) -> None:
        topics = plan.topics
        self._decisions, self._deployments = (TopicPartition(topic, 0) for topic in (topics.decisions, topics.deployments))
        self._codecs = {topics.decisions: message_codec(registry, topics.decisions, "decision")}
        self._codecs[topics.deployments] = message_codec(registry, topics.deployments, "deployment")
        self._reader, self._trainings = broker.reader(), topics.retraining
        self._read = {place: self._reader.watermarks(place)[1] for place in (self._decisions, self._deployments)}
        self._events: dict[str, dict[str, Any]] = {}
        self._decided: dict[str, dict[str, Any]] = {}

    def lifecycle(self, model: str) -> Lifecycle:
        """Return where a model stands now."""
        lifecycle = Lifecycle()
        for event in self._values(self._deployments, 0):
            if event["model"] == model:
                lifecycle = lifecycle.apply(event)
        return lifecycle

    def answer(self, command_id: str) -> Answer | None:
        """Return what has become of a command; None as long as nothing has."""
        for fresh in self._fresh(self._decisions):
            # Of a repeated command the first decision counts; the others say that it was followed before.
            self._decided.setdefault(fresh["cause"], fresh)
        for done in self._fresh(self._deployments):
            if done["command_id"]:
                self._events[done["decision_id"]] = done
        decided = self._decided.get(command_id)
        if decided is None:
            return None
        if decided["verdict"] != "requested":
            return Answer(decided["verdict"] == "obeyed", decided["reason"])
        if decided["action"] == "train":
            return Answer(True, f"A training is asked for; {self._trainings} says what becomes of it (decision {decided['decision_id']}).")
        event = self._events.get(decided["decision_id"])
        return None if event is None else Answer(event["event"] != "command_refused", _words(event))

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def _fresh(self, place: TopicPartition) -> list[dict[str, Any]]:
        begin, self._read[place] = self._read[place], self._reader.watermarks(place)[1]
        return self._values(place, begin, self._read[place])

    def _values(self, place: TopicPartition, begin: int, end: int | None = None) -> list[dict[str, Any]]:
        low = self._reader.watermarks(place)[0]
        codec = self._codecs[place.topic]
        return [codec.decode(value) for records in self._reader.read(place, max(low, begin), end) for value in records.values if value is not None]


_DONE = {
    "rolled_back": "was rolled back to",
    "promoted": "is served by",
    "stepped_back": "is tried no more with",
    "ab": "is compared with",
    "pinned": "is pinned to",
    "unpinned": "is not pinned any more to",
}


def problem_of(action: str, version: str, lifecycle: Lifecycle) -> str:
    """Return why a command cannot be followed as the model stands now; empty when it can."""
    event = obey({"action": action, "version": version, "serving": "", "reason": ""}, lifecycle)
    return event.reason if event.event == "command_refused" else ""


def _words(event: Mapping[str, Any]) -> str:
    if event["event"] == "command_refused":
        return str(event["reason"])
    share = f", which answers {event['share']:.0%} of the requests" if event["event"] == "ab" else ""
    return f"{event['model']} {_DONE[event['event']]} {event['version']}{share}."
