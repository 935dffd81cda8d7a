"""Incidents: findings that belong together, from the first one until three quiet windows have passed."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import accumulate
from typing import Any

from tidemill.services.drift.domain.causes import action_of, cause_of
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.incident import RANK, Incident, IncidentChange, IncidentUpdate, Key, Status
from tidemill.shared.application.lineage import Lineage

TOGETHER_MS = 86_400_000
EXPLAINS_MS = 7 * TOGETHER_MS
BROKEN = frozenset({"missing", "range", "category", "units"})
"""Kinds of findings that say which column is broken."""
OF_STREAM = frozenset({"volume", "freshness", "label_delay", "label_share", "labels"})
"""Kinds of findings about a stream as a whole; their subject is its name."""
SCHEMA = "schema_change"
"""Kind of the finding that a stream's records are written otherwise; its subject is the stream."""
OF_CLASSES = frozenset({"unknown_class", "new_class"})
"""Kinds of findings about labels of classes that the champion does not know; their subject is the class."""
SYMPTOMS = frozenset({"loss", "quality", "prediction"})
"""Kinds of findings that say that something is wrong, and not where."""
_FINER = {"column": 0, "view": 1, "stream": 2, "labels": 3, "model": 3}
_OPEN_KEPT = 200
_LEAST_COLUMNS = 3
_SUBJECTS_BYTES, _LENGTH_BYTES = 512 << 10, 3


class IncidentFold:
    """Findings of one model in, updates of incidents out. Pure: the journal's coordinates are its clock.

    Findings of one place of the journal are explained by as few causes as will do: the column, view or stream that most of them have in common is the
    root of the first incident, what it does not explain goes on to the next (a column before a view before a stream where they explain as much). So
    forty features of one broken column are one incident, and two columns that break on one day are two. A finding belongs to an open incident when it
    shares its root, or when it shares anything with it within 24 hours of its last finding.

    - Findings of broken values share columns and views; a stream only where that stream itself has a finding, or where most of its columns (three
      at least) broke together.
    - A change of how a stream's records are written shares the stream, the columns that it concerns, and the stream with what of these is broken.
    - Shifted distributions share streams as well: weather and seasons move all columns of a stream.
    - Labels of classes that the champion does not know share nothing but the label: they are one incident, whatever else happens to the stream.
    - What is made of a stream that had ended shares that stream, which then is the cause.
    - Loss, quality and predictions do not say where: they join what is broken, else they are an incident of their own.

    An incident is over when each of its conditions has been below half of its bound for three windows; a condition that is not measured in a window
    with rows counts as quiet.

    Parameters
    ----------
    lineage
        Of the model's features, by name.

    References
    ----------
    Chvatal: A greedy heuristic for the set-covering problem. Mathematics of Operations Research 1979.
    """

    def __init__(self, model: str, lineage: Mapping[str, Lineage]) -> None:
        self._model, self._lineage = model, lineage
        self._columns: dict[str, set[str]] = {}
        for one in lineage.values():
            for column in one.columns:
                self._columns.setdefault(column.split(".", 1)[0], set()).add(column)
        self.open: dict[str, Incident] = {}
        self._ended: Set[str] = frozenset()

    def absorb(self, findings: Sequence[Finding], *, fallback_share: float = 0.0, ended: Set[str] = frozenset()) -> list[IncidentUpdate]:
        """Take findings of one place of the journal; what is for information only opens nothing.

        Parameters
        ----------
        ended
            Streams that had ended while requests came.
        """
        self._ended = ended
        worth = [finding for finding in findings if finding.severity != "info"]
        changed: dict[str, IncidentChange] = {}
        alone: list[Finding] = []
        nodes = {finding.drift_id: self._nodes(finding, worth) for finding in worth}
        for finding in worth:
            if finding.kind in SYMPTOMS:
                continue
            incident = self._matching(finding, nodes[finding.drift_id])
            if incident is None:
                alone.append(finding)
            else:
                self._join(incident, finding, nodes[finding.drift_id], changed)
        while alone:
            root = self._root([nodes[finding.drift_id] for finding in alone])
            mine = [finding for finding in alone if root in nodes[finding.drift_id]]
            alone = [finding for finding in alone if root not in nodes[finding.drift_id]]
            self._open_incident(root, mine, nodes, changed)
        for finding in worth:
            if finding.kind in SYMPTOMS:
                incident = self._explaining(finding)
                if incident is not None:
                    self._join(incident, finding, frozenset(), changed)
                else:
                    self._open_incident(f"model:{self._model}", [finding], nodes, changed)
        at = {finding.drift_id: finding.at for finding in worth}
        return [self._say(self.open[name], change, at[self.open[name].findings[-1]], fallback_share) for name, change in changed.items()]

    def close_window(self, at: Coordinates, levels: Mapping[Key, float], rows: int, *, fallback_share: float = 0.0) -> list[IncidentUpdate]:
        """Take note of how far each condition was from its bound in a window that is over, and resolve what is quiet.

        Parameters
        ----------
        levels
            Statistic over bound of every condition that was measured.
        rows
            Of the window: what was not measured because there were none says nothing.
        """
        said = []
        for incident in list(self.open.values()):
            for key, windows in incident.calm.items():
                if key in levels:
                    incident.calm[key] = windows + 1 if levels[key] < 0.5 else 0
                elif rows:
                    incident.calm[key] = windows + 1
            if incident.is_over:
                said.append(self._say(incident, "resolved", at, fallback_share))
                del self.open[incident.incident_id]
        return said

    def snapshot(self) -> list[dict[str, Any]]:
        """State as plain lists, texts and numbers."""
        return [incident.snapshot() for incident in self.open.values()]

    def load(self, state: Iterable[Mapping[str, Any]]) -> None:
        """Take the state of a snapshot."""
        incidents = map(Incident.load, state)
        self.open = {incident.incident_id: incident for incident in incidents}

    def _nodes(self, finding: Finding, together: Sequence[Finding]) -> frozenset[str]:
        """Return what can be the cause of a finding."""
        if finding.kind == SCHEMA:
            return frozenset({f"stream:{finding.subject}"} | {f"column:{finding.subject}.{column}" for column in finding.columns})
        if finding.kind in OF_CLASSES:
            return frozenset({f"labels:{self._model}"})
        if finding.kind in OF_STREAM:
            return frozenset({f"stream:{finding.subject}"} | (self._without_rows(together) if finding.kind.startswith("label") else set()))
        own = self._lineage.get(finding.subject)
        if own is None:
            return frozenset({f"model:{self._model}"})
        streams = own.streams
        if finding.kind in BROKEN:
            failing = {one.subject for one in together if one.kind in OF_STREAM and not one.part}
            failing |= {node.removeprefix("stream:") for incident in self.open.values() for node in incident.nodes if self._fails(incident, node)}
            rewritten = {one.subject for one in together if one.kind == SCHEMA for column in one.columns if f"{one.subject}.{column}" in own.columns}
            named = {column.partition(".")[0] for column in own.columns}
            failing |= rewritten | self._ended
            streams = frozenset(name for name in streams | named if name in failing or self._mostly_broken(name, together))
        return own.nodes | {f"stream:{name}" for name in streams}

    def _without_rows(self, together: Sequence[Finding]) -> set[str]:
        """Return the streams of requests that bring another number of rows: then other numbers of labels follow."""
        lasting = {subject for incident in self.open.values() for kind, subject in incident.calm if kind == "volume"}
        return {f"stream:{subject}" for subject in lasting | {one.subject for one in together if one.kind == "volume"}}

    def _fails(self, incident: Incident, node: str) -> bool:
        return node == incident.root and node.startswith("stream:") and any(kind in OF_STREAM or kind == SCHEMA for kind, _ in incident.calm)

    def _mostly_broken(self, stream: str, together: Sequence[Finding]) -> bool:
        broken = set()
        for finding in together:
            own = self._lineage.get(finding.subject) if finding.kind in BROKEN else None
            if own is not None and not own.view:
                broken |= {column for column in own.columns if column.startswith(f"{stream}.")}
        return len(broken) >= max(_LEAST_COLUMNS, len(self._columns.get(stream, ())) / 2)

    def _root(self, nodes: Sequence[frozenset[str]]) -> str:
        """Return what explains most; where several do, the finest."""
        counts: dict[str, int] = {}
        for some in nodes:
            for node in some:
                counts[node] = counts.get(node, 0) + 1
        return min(counts, key=lambda node: (-counts[node], _FINER[node.split(":", 1)[0]], node))

    def _matching(self, finding: Finding, nodes: frozenset[str]) -> Incident | None:
        for incident in self.open.values():
            if incident.root in nodes or (finding.at.time_ms - incident.last_ms <= TOGETHER_MS and incident.nodes & nodes):
                return incident
        return None

    def _explaining(self, finding: Finding) -> Incident | None:
        """Return the incident that a symptom belongs to: its own kind's, or what is broken, or for predictions what shifted in the last day."""
        own = [one for one in self.open.values() if one.root == f"model:{self._model}"]
        broken = [one for one in self.open.values() if finding.at.time_ms - one.last_ms <= EXPLAINS_MS and self._breaks_answers(one)]
        lately = [one for one in self.open.values() if finding.kind == "prediction" and finding.at.time_ms - one.last_ms <= TOGETHER_MS]
        return next(iter([*own, *broken, *lately]), None)

    def _breaks_answers(self, incident: Incident) -> bool:
        """Whether there is more than values of a range that was not learned from, which every season brings."""
        return any(kind != "range" and (kind in BROKEN or kind in OF_STREAM or kind == SCHEMA) for kind in incident.kinds)

    def _open_incident(self, root: str, findings: Sequence[Finding], nodes: Mapping[str, frozenset[str]], changed: dict[str, IncidentChange]) -> None:
        first = findings[0]
        name = hashlib.sha256("\x1f".join(map(str, (self._model, root, *first.at))).encode()).hexdigest()[:32]
        severity = max((finding.severity for finding in findings), key=RANK.__getitem__)
        common = set(frozenset.intersection(*(nodes[finding.drift_id] for finding in findings))) | {root}
        incident = Incident(name, self._model, root, first.at, severity, common, ended=self._ended_at(root))
        for finding in findings:
            incident.add(finding)
        self.open[name] = incident
        changed[name] = "opened"
        while len(self.open) > _OPEN_KEPT:
            del self.open[next(iter(self.open))]

    def _ended_at(self, root: str) -> str:
        """Return the stream behind a root that had ended; empty where none had."""
        what, _, name = root.partition(":")
        behind = {"stream": {name}, "column": {name.partition(".")[0]}}.get(what, set())
        if what == "view":
            behind = {stream for one in self._lineage.values() if one.view == name for stream in one.streams}
        return min(behind & self._ended, default="")

    def _join(self, incident: Incident, finding: Finding, nodes: frozenset[str], changed: dict[str, IncidentChange]) -> None:
        before, breaks = incident.severity, finding.kind in BROKEN and not any(kind in BROKEN for kind in incident.kinds)
        incident.add(finding)
        if incident.nodes & nodes:
            incident.nodes = (incident.nodes & nodes) | {incident.root}
        worse = RANK[incident.severity] > RANK[before] or breaks
        if changed.get(incident.incident_id) != "opened":
            changed[incident.incident_id] = "worse" if worse or changed.get(incident.incident_id) == "worse" else "joined"

    def _say(self, incident: Incident, change: IncidentChange, at: Coordinates, fallback_share: float) -> IncidentUpdate:
        status: Status = "open" if change == "opened" else "resolved" if change == "resolved" else "ongoing"
        incident.number += 1
        subjects = sorted({subject for _, subject in incident.calm})
        return IncidentUpdate(
            at,
            {
                "incident_id": incident.incident_id,
                "model": incident.model,
                "status": status,
                "change": change,
                "number": incident.number,
                "severity": incident.severity,
                "opened_as": incident.opened_as,
                "root": incident.root,
                "likely_cause": cause_of(incident.root, incident.kinds, subjects, incident.ended),
                "action": action_of(fallback_share),
                "decisions": [],
                "subjects": _that_fit(subjects),
                "kinds": incident.kinds,
                "findings": incident.count,
                "drift_ids": list(incident.findings),
                "opened": incident.opened.time_ms,
                "level": incident.worst,
                "evidence": dict(incident.evidence),
                "detail": incident.details[-1] if len(incident.details) == 1 else f"{len(subjects)} subjects; first: {incident.details[0]}",
            },
        )


def _that_fit(subjects: Sequence[str]) -> list[str]:
    """Return the first subjects that half a record holds: an incident can concern thousands of features, or as many slices of them."""
    ends = accumulate(len(subject.encode()) + _LENGTH_BYTES for subject in subjects)
    return list(subjects[: sum(end <= _SUBJECTS_BYTES for end in ends)])
