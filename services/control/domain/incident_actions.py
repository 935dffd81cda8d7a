"""What the system did about an incident: the decisions that followed it, and what became of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DECISIONS_KEPT = 20
_INCIDENTS_KEPT = 200
_CAUSES_KEPT = 1_000
_IN_WORDS = 3
_SHORT_ID = 8
_LONGEST_REASON = 160
_OF_TRAININGS = ("started", "finished", "failed", "refused")
_NOTHING = "nothing: what shifts without a loss never retrains by itself"
_WAITS = "nothing yet: a training is asked for once a class can be learned"
Record = dict[str, Any]


@dataclass(slots=True)
class _Followed:
    """An incident whose end, or whose decisions' outcome, is yet to come.

    Attributes
    ----------
    record
        What drift said of it last.
    number
        How many records of it have been written.
    """

    record: Record
    number: int = 0
    decisions: list[Record] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether it is resolved and nothing of what was asked for is left open."""
        return self.record["status"] == "resolved" and not any(one["verdict"] == "requested" and not _is_final(one) for one in self.decisions)


class IncidentActions:
    """Incidents as drift finds them in; the same incidents with what was done about them out.

    A decision belongs to the incident whose finding is its cause, and also (by schedule, trial or command) to every incident of its model that lasts
    when it is taken: whoever reads of a broken column wants to know that a training ran meanwhile, and that somebody paused them. Each new
    decision of the second sort, and each outcome, is a record of its own (`change` acted), as the decision of a finding is part of the record
    that the finding opened or joined.

    Memory: 200 incidents of 20 decisions each, and the last 1,000 findings that something was decided on.
    """

    def __init__(self) -> None:
        self._incidents: dict[str, _Followed] = {}
        self._causes: dict[str, Record] = {}

    def incident(self, record: Mapping[str, Any]) -> Record:
        """Return what is said of an incident by what drift says of it."""
        name = record["incident_id"]
        one = self._incidents.setdefault(name, _Followed(dict(record)))
        one.record = dict(record)
        for cause in record["drift_ids"]:
            if cause in self._causes:
                _add(one, self._causes.pop(cause))
        told = self._told(one, record["change"])
        self._forget()
        return told

    def causes(self, record: Mapping[str, Any]) -> set[str]:
        """Return what is known of the findings of an incident: the last ones, and those that something was decided on."""
        one = self._incidents.get(record["incident_id"])
        return {*record["drift_ids"], *(decision["cause"] for decision in (one.decisions if one is not None else ()))}

    def decided(self, decision: Mapping[str, Any]) -> list[Record]:
        """Take a decision; what is to be said of incidents that last."""
        own: Record = {name: decision[name] for name in ("decision_id", "action", "verdict", "trigger", "reason", "version", "operator", "cause")}
        own |= {"decided": decision["journal_time"], "outcome": "", "result": ""}
        waiting = [one for one in self._incidents.values() if any(earlier["cause"] == decision["cause"] for earlier in one.decisions)]
        if decision["trigger"] in ("drift", "new_class") and not waiting:
            self._causes[decision["cause"]] = own
            while len(self._causes) > _CAUSES_KEPT:
                del self._causes[next(iter(self._causes))]
            return []
        mine = [one for one in self._incidents.values() if one.record["model"] == decision["model"]]
        lasting = waiting or [one for one in mine if one.record["status"] != "resolved"]
        for one in lasting:
            _add(one, dict(own))
        return [self._told(one, "acted", decision) for one in lasting]

    def trained(self, account: Mapping[str, Any]) -> list[Record]:
        """Take a record of a training; what is to be said of its incidents."""
        return self._answered(account, of_training=True) if account["event"] in _OF_TRAININGS else []

    def deployed(self, event: Mapping[str, Any]) -> list[Record]:
        """Take an event of the lifecycle log; those of a training's candidate are in the training's own account."""
        return self._answered(event, of_training=False)

    def _answered(self, answer: Mapping[str, Any], *, of_training: bool) -> list[Record]:
        said = []
        for one in self._incidents.values():
            for decision in one.decisions:
                mine = decision["decision_id"] == answer["decision_id"] and (decision["action"] == "train") == of_training
                if mine and not _is_final(decision) and decision["outcome"] != answer["event"]:
                    decision |= {"outcome": answer["event"], "result": answer["reason"]}
                    said.append(self._told(one, "acted", answer))
        self._forget()
        return said

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON can hold it; empty where there is none."""
        if not self._incidents and not self._causes:
            return {}
        incidents = [[one.record, one.number, one.decisions] for one in self._incidents.values()]
        return {"incidents": incidents, "causes": self._causes}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a snapshot."""
        self._incidents = {record["incident_id"]: _Followed(record, number, decisions) for record, number, decisions in state["incidents"]}
        self._causes = dict(state["causes"])

    def _told(self, one: _Followed, change: str, at: Mapping[str, Any] | None = None) -> Record:
        """Return the record of an incident, at the later one of its own place and another record's."""
        one.number += 1
        place = max((record["journal_time"], record["journal_partition"], record["journal_offset"]) for record in (one.record, at or one.record))
        where = dict(zip(("journal_time", "journal_partition", "journal_offset"), place, strict=True))
        one.record |= where
        public = [{name: value for name, value in decision.items() if name != "cause"} for decision in one.decisions]
        return {**one.record, "change": change, "number": one.number, "action": _words(one.record, one.decisions), "decisions": public}

    def _forget(self) -> None:
        for name in [name for name, one in self._incidents.items() if one.is_over]:
            del self._incidents[name]
        while len(self._incidents) > _INCIDENTS_KEPT:
            del self._incidents[next(iter(self._incidents))]


def _add(one: _Followed, decision: Record) -> None:
    one.decisions = [*one.decisions, decision][-_DECISIONS_KEPT:]


def _is_final(decision: Mapping[str, Any]) -> bool:
    return decision["outcome"] not in ("", "started")


def _words(record: Mapping[str, Any], decisions: list[Record]) -> str:
    """Return what drift knows of (the fallback's share) and the last decisions, in words."""
    earlier = len(decisions) - _IN_WORDS
    parts = [record["action"]] if record["action"] else []
    parts += [f"{earlier} earlier decisions"] if earlier > 0 else []
    parts += [_decision_words(one) for one in decisions[-_IN_WORDS:]]
    return "; ".join(parts) or (_WAITS if record["root"].startswith("labels:") else _NOTHING)


def _decision_words(one: Mapping[str, Any]) -> str:
    """Return a decision and its outcome in words.

    >>> own = {"action": "train", "decision_id": "3fd2a9aa17", "verdict": "requested", "trigger": "drift", "reason": "adwin: worse", "operator": ""}
    >>> _decision_words({**own, "outcome": "finished", "result": "v7 promoted: the loss is lower", "version": ""})
    'training 3fd2a9aa: v7 promoted: the loss is lower'
    """
    what = "training" if one["action"] == "train" else one["action"].replace("_", " ")
    what += f" of {one['version']}" if one["version"] else ""
    who = {"manual": f" by {one['operator']}" if one["operator"] else " by command", "schedule": " by schedule"}.get(one["trigger"], "")
    named = f"{what}{who} {one['decision_id'][:_SHORT_ID]}"
    if one["verdict"] == "skipped":
        return f"no {what}: {_short(one['reason'].split(' (')[0])}"
    if one["verdict"] == "requested":
        if one["outcome"] in ("finished", "promoted"):
            return f"{named}: {_short(one['result'])}"
        return f"{named} {one['outcome'] or 'asked for'}" + (f": {_short(one['result'])}" if _is_final(one) else "")
    return f"{named} {one['verdict']}: {_short(one['reason'])}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
