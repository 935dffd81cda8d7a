"""Labels of classes that the champion does not know, of a model that learns its classes: what is told of them, and when they can be learned."""

import json
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


@dataclass(slots=True)
class UnknownClasses:
    """Counts labels by class, as long as the champion does not know the class.

    A class is told as `unknown_class` when it makes more than a hundredth of a week's labels (five at least), the others together when they make more
    than a twentieth: a name that somebody mistyped once is no news. When it has the labels that a training learns a class from, of requests whose
    label horizon has passed, it is told as `new_class`, which asks for a training, and again at every half more of them: a training may have been
    skipped, or may have had to leave the class out.

    Memory: 1,000 names; of further ones only the number of labels is kept. The subject of a finding is the name of a class; one that is called
    "other classes" stands in quotes, as the others together have that subject.

    Parameters
    ----------
    least
        Labels of a class that a training learns it from.

    Attributes
    ----------
    known
        Classes that the champion answers.
    nameless
        Of the window that goes on, labels of names beyond those that are kept.
    days
        Of the last seven windows: the day, its labels, those of each unknown class, and those of names beyond.
    requests
        By class and day of the request, labels whose horizon has not passed.
    ripe
        By class, labels whose horizon has passed: in one number, so that what is never learned does not grow day by day.
    next_ask
        By class, labels at which it is told (again) that they are enough.
    """

    model: str
    label_stream: str
    least: int
    known: tuple[str, ...] = ()
    labels: int = 0
    today: Counter[str] = field(default_factory=Counter)
    nameless: int = 0
    days: list[tuple[int, int, dict[str, int], int]] = field(default_factory=list)
    requests: dict[str, Counter[int]] = field(default_factory=dict)
    ripe: Counter[str] = field(default_factory=Counter)
    next_ask: dict[str, int] = field(default_factory=dict)

    def promote(self, classes: Sequence[str]) -> None:
        """Take note of the classes of a new champion; what it knows is counted no longer."""
        self.known = tuple(classes)
        for name in classes:
            self.requests.pop(name, None)
            self.ripe.pop(name, None)
            self.next_ask.pop(name, None)

    def absorb(self, names: Sequence[str], request_ms: Sequence[int]) -> None:
        """Count labels, by the name of the class and the journal time of the request."""
        self.labels += len(names)
        for name, asked in zip(names, request_ms, strict=True):
            if name in self.known:
                continue
            if name not in self.requests and len(self.requests) >= _NAMES_KEPT:
                self.nameless += 1
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
        self.days = [one for one in self.days if one[0] > day - _DAYS] + [(day, self.labels, dict(self.today), self.nameless)]
        self.labels, self.today, self.nameless = 0, Counter(), 0
        if version is None:
            return []
        return [*self._told(at, version, conditions), *self._enough(at, version, horizon_ms)]

    def _told(self, at: Coordinates, version: str, conditions: Conditions) -> list[Finding]:
        labels, nameless = sum(one[1] for one in self.days), sum(one[3] for one in self.days)
        week = Counter[str]()
        for _, _, counts, _ in self.days:
            week.update({name: count for name, count in counts.items() if name not in self.known})
        lasting = {subject for kind, subject in conditions.active if kind == "unknown_class"}
        named = {_subject(name): name for name in week}
        single = {one for one, name in named.items() if week[name] >= max(_LEAST_LABELS, _SHARE * labels) or one in lasting}
        others = [name for one, name in named.items() if one not in single]
        findings: list[Finding] = []
        for subject in sorted(single | {_OTHERS} | lasting):
            if subject == _OTHERS:
                count, bound = sum(week[name] for name in others) + nameless, _SHARE_OF_OTHERS
                words = f"{len(others):,}{' or more' if nameless else ''} other classes"
            else:
                count, bound, words = week[named[subject]] if subject in named else 0, _SHARE, f"class {subject}"
            share = count / labels if labels and count >= _LEAST_LABELS else 0.0
            detail = f"{count:,} of {labels:,} labels of {len(self.days)} days ({share:.1%}) are of {words}, unknown to champion {version}"
            evidence = {"labels": float(count), "of_labels": float(labels), "share": share}
            severity: Severity = "alarm" if share > _MOSTLY else "warning"
            findings += conditions.hold(at, "unknown_class", subject, "threshold", share, bound, detail, evidence, severity)
        return findings

    def _enough(self, at: Coordinates, version: str, horizon_ms: int) -> list[Finding]:
        findings = []
        for name, by_day in sorted(self.requests.items()):
            old = [asked for asked in by_day if (asked + 1) * _DAY_MS <= at.time_ms - horizon_ms]
            self.ripe[name] += sum(by_day.pop(asked) for asked in old)
            count = self.ripe[name]
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
            "known": list(self.known), "labels": self.labels, "today": self.today, "nameless": self.nameless, "days": self.days,
            "requests": requests, "ripe": self.ripe, "next_ask": self.next_ask,
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.known, self.labels, self.today = tuple(state["known"]), state["labels"], Counter(state["today"])
        self.nameless = state["nameless"]
        self.days = [(day, labels, counts, nameless) for day, labels, counts, nameless in state["days"]]
        self.requests = {name: Counter(dict(by_day)) for name, by_day in state["requests"].items()}
        self.ripe, self.next_ask = Counter(state["ripe"]), dict(state["next_ask"])


def _subject(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) if name == _OTHERS or name.startswith('"') else name
