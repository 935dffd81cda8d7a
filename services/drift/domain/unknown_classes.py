"""Labels of classes that the champion does not know, of a model that learns its classes: what is told of them, and when they can be learned."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.findings import Coordinates, Finding, Severity

_DAY_MS = 86_400_000
_DAYS = 7
_SHARE, _SHARE_OF_OTHERS, _MOSTLY = 0.01, 0.05, 0.5
_LEAST_LABELS = 5
_AGAIN = 1.5
_NAMES_KEPT = 1_000
_OTHERS = "other classes"
_OLD = -1


@dataclass(slots=True)
class UnknownClasses:
    """Counts labels by class, as long as the champion does not know the class.

    A class is told as `unknown_class` when it makes more than a hundredth of a week's labels (five at least), the others together when they make more
    than a twentieth: a name that somebody mistyped once is no news. When it has the labels that a training learns a class from, of requests whose
    label horizon has passed, it is told as `new_class`, which asks for a training, and again at every half more of them: a training may have been
    skipped, or may have had to leave the class out.

    Memory: 1,000 names; of further ones only the number of labels is kept.

    Parameters
    ----------
    least
        Labels of a class that a training learns it from.

    Attributes
    ----------
    known
        Classes that the champion answers.
    days
        Of the last seven windows: the day, its labels, and those of each unknown class.
    requests
        By class and day of the request, all labels so far; those whose horizon has passed are under -1.
    next_ask
        By class, labels at which it is told (again) that they are enough.
    """

    model: str
    label_stream: str
    least: int
    known: tuple[str, ...] = ()
    labels: int = 0
    today: Counter[str] = field(default_factory=Counter)
    days: list[tuple[int, int, dict[str, int]]] = field(default_factory=list)
    requests: dict[str, Counter[int]] = field(default_factory=dict)
    next_ask: dict[str, int] = field(default_factory=dict)

    def promote(self, classes: Sequence[str]) -> None:
        """Take note of the classes of a new champion; what it knows is counted no longer."""
        self.known = tuple(classes)
        for name in classes:
            self.requests.pop(name, None)
            self.next_ask.pop(name, None)

    def absorb(self, names: Sequence[str], request_ms: Sequence[int]) -> None:
        """Count labels, by the name of the class and the journal time of the request."""
        self.labels += len(names)
        for name, asked in zip(names, request_ms, strict=True):
            if name in self.known:
                continue
            if name not in self.requests and len(self.requests) >= _NAMES_KEPT:
                self.today[_OTHERS] += 1
                continue
            self.today[name] += 1
            self.requests.setdefault(name, Counter())[asked // _DAY_MS] += 1

    def close(self, at: Coordinates, version: str | None, day: int, conditions: Conditions, horizon_ms: int) -> list[Finding]:
        """Take a window; without a champion there is nothing to tell.

        Parameters
        ----------
        horizon_ms
            How old a request must be for its label to be learned from.
        """
        self.days = [one for one in self.days if one[0] > day - _DAYS] + [(day, self.labels, dict(self.today))]
        self.labels, self.today = 0, Counter()
        if version is None:
            return []
        return [*self._told(at, version, conditions), *self._enough(at, version, horizon_ms)]

    def _told(self, at: Coordinates, version: str, conditions: Conditions) -> list[Finding]:
        labels = sum(count for _, count, _ in self.days)
        week = Counter[str]()
        for _, _, counts in self.days:
            week.update({name: count for name, count in counts.items() if name not in self.known})
        lasting = {name for kind, name in conditions.active if kind == "unknown_class"}
        single = {name for name, count in week.items() if name != _OTHERS and (count >= max(_LEAST_LABELS, _SHARE * labels) or name in lasting)}
        others = [name for name in week if name not in single]
        week[_OTHERS] = sum(week[name] for name in others)
        findings: list[Finding] = []
        for name in sorted(single | {_OTHERS} | lasting):
            count, bound = week[name], _SHARE_OF_OTHERS if name == _OTHERS else _SHARE
            share = count / labels if labels and count >= _LEAST_LABELS else 0.0
            words = f"{len(others):,} other classes" if name == _OTHERS else f"class {name}"
            detail = f"{count:,} of {labels:,} labels of {len(self.days)} days ({share:.1%}) are of {words}, unknown to champion {version}"
            evidence = {"labels": float(count), "of_labels": float(labels), "share": share}
            severity: Severity = "alarm" if share > _MOSTLY else "warning"
            findings += conditions.hold(at, "unknown_class", name, "threshold", share, bound, detail, evidence, severity)
        return findings

    def _enough(self, at: Coordinates, version: str, horizon_ms: int) -> list[Finding]:
        findings = []
        for name, by_day in sorted(self.requests.items()):
            old = [asked for asked in by_day if (asked + 1) * _DAY_MS <= at.time_ms - horizon_ms]
            # In one, so that what is never learned does not grow day by day.
            count = by_day[_OLD] = sum(by_day.pop(asked) for asked in old)
            if count < self.next_ask.get(name, self.least):
                continue
            self.next_ask[name] = math.ceil(count * _AGAIN)
            detail = f"{count:,} labels of class {name}, unknown to champion {version}, can be learned from; a training needs {self.least:,}"
            evidence = {"labels": float(count), "needed": float(self.least)}
            findings.append(Finding(self.model, at, "new_class", name, "threshold", "warning", float(count), float(self.least), detail, evidence))
        return findings

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers."""
        requests = {name: sorted(by_day.items()) for name, by_day in self.requests.items()}
        return {
            "known": list(self.known), "labels": self.labels, "today": self.today, "days": self.days, "requests": requests, "next_ask": self.next_ask
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.known, self.labels, self.today = tuple(state["known"]), state["labels"], Counter(state["today"])
        self.days = [(day, labels, counts) for day, labels, counts in state["days"]]
        self.requests = {name: Counter(dict(by_day)) for name, by_day in state["requests"].items()}
        self.next_ask = dict(state["next_ask"])
