"""Watches one model: who serves, whether its loss has changed, whether its inputs still look like what it learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.data_quality import QualityBounds
from tidemill.services.drift.domain.features import FeatureColumn, Shift, Summary
from tidemill.services.drift.domain.findings import Coordinates, Finding, Kind, Severity
from tidemill.services.drift.domain.incidents import CALM_WINDOWS
from tidemill.services.drift.domain.loss_verdict import LossSettings, LossVerdict
from tidemill.services.drift.domain.null_shifts import shift_bounds
from tidemill.services.drift.domain.quality import WindowRows
from tidemill.services.drift.domain.recent_labels import MetricBound, RecentLabels
from tidemill.services.drift.domain.rows import OutcomeRows, Placed
from tidemill.services.drift.domain.stream_quality import StreamKind, StreamQuality, words_of
from tidemill.services.drift.domain.waiting_labels import Labels
from tidemill.shared.kinds import kind as kinds

_REFERENCES_KEPT = 8
_BOOTSTRAP_AGAIN = 1.25
_CALM_LEVEL = 0.5
_GONE = 0.5
_LEAST_ROWS = 20


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What is watched, and the bounds.

    Attributes
    ----------
    loss
        How the loss is watched.
    min_rows
        Vectors a window needs before its features are compared.
    outside
        Share of a window's rows outside of the reference's range that is worth a warning.
    bounds_of_metrics, recent_labels
        Bounds on the metrics of that many last labels.
    """

    model: str
    ask: str
    features: tuple[str, ...]
    kind: kinds.Kind
    bootstrap_labels: int
    loss: LossSettings = field(default_factory=LossSettings)
    psi: float = 0.2
    missing_shift: float = 0.1
    outside: float = 0.05
    bounds_of_metrics: tuple[MetricBound, ...] = ()
    min_rows: int = 100
    recent_labels: int = 2000
    label_stream: str = ""


@dataclass(slots=True)
class ModelWatch:
    """Fold over one model's predictions and outcomes.

    The champion is read from the answers themselves (variant, version, deployment sequence), which are in journal order; the
    deployments topic is not, so following it would make results depend on when it was read.

    Findings of a condition that lasts (a shifted feature, an AUC below its bound) are given when it begins and again only after it has
    been below half of its bound for three windows: PSI is above its bound on nearly every day of a real year.

    Attributes
    ----------
    active
        Conditions that have begun, with the quiet windows in a row of each.
    levels
        Statistic over bound of every condition that was measured in the window that is being closed; not part of the state.
    """

    settings: WatchSettings
    version: str | None = None
    sequence: int = -1
    labels: int = 0
    next_bootstrap: int = 0
    window: WindowRows = field(default_factory=WindowRows)
    references: dict[str, Mapping[str, Summary]] = field(default_factory=dict)
    bounds: dict[str, dict[str, float]] = field(default_factory=dict)
    usual: dict[str, dict[str, QualityBounds]] = field(default_factory=dict)
    streams: StreamQuality = field(default_factory=StreamQuality)
    active: dict[tuple[str, str], int] = field(default_factory=dict)
    levels: dict[tuple[str, str], float] = field(default_factory=dict)
    recent: RecentLabels = field(init=False)
    verdict: LossVerdict = field(init=False)

    def __post_init__(self) -> None:
        self.next_bootstrap = self.next_bootstrap or self.settings.bootstrap_labels
        self.recent = RecentLabels(self.settings.bounds_of_metrics, self.settings.recent_labels)
        self.verdict = LossVerdict(self.settings.model, self.settings.loss)

    def promote(
        self,
        version: str,
        sequence: int,
        seen: Mapping[str, Summary],
        null: Mapping[str, Sequence[float]],
        daily: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    ) -> None:
        """Take note of a new champion, whose training data were what had been seen, and of how their days differed (`null`, `daily`).

        After a roll-back the champion is one that served before: it keeps the reference it had, and `seen` is not read.
        """
        self.sequence = sequence
        if version == self.version:
            return
        self.version = version
        if version in self.references:
            self.references[version] = self.references.pop(version)
        else:
            self.references[version] = {name: seen[name] for name in self.settings.features}
            days = daily or {}
            self.usual[version] = {
                name: QualityBounds.of(days.get(name, {}), seen[name].missing_share, self.settings.outside) for name in self.settings.features
            }
            self.bounds[version] = shift_bounds({name: null.get(name, ()) for name in self.settings.features}, self.settings.psi)
        for oldest in list(self.references)[:-_REFERENCES_KEPT]:
            del self.references[oldest], self.bounds[oldest], self.usual[oldest]
        self.active.clear()
        self.recent.clear()
        self.verdict.reset()

    def outcomes(self, rows: OutcomeRows, mine: NDArray[np.bool_]) -> list[Finding]:
        """Absorb outcomes in order: labels, silence that is one, and corrections, which replace; time-outs without a label are counted."""
        kind = self.settings.kind
        joined = mine & (rows.status != "unmatched")
        labelled = joined & kind.is_label(rows.label)
        self.window.outcomes(kind, rows, labelled, int((joined & (rows.revision == 0) & np.isnan(rows.label)).sum()))
        found = self._bootstrap(rows, labelled & (rows.revision == 0))
        if self.version is not None:
            served = labelled & (rows.variant == "champion") & (rows.version == self.version)
            found += self.verdict.outcomes(self.version, *_labels(kind, rows, mine, served))
            self.recent.absorb(kind, rows, served)
        return found

    def shifted(self, at: Coordinates, shifts: Mapping[str, Shift]) -> list[Finding]:
        """Compare a closed window's features with the reference: distributions with the reference's own days, shares with fixed bounds."""
        found: list[Finding] = []
        bounds, own = self.settings, self.severities(shifts)
        for name, one in shifts.items():
            if one.rows < bounds.min_rows:
                continue
            evidence = {"psi": one.psi, "js": one.js, "ks": one.ks, "missing": one.missing, "missing_reference": one.missing_reference}
            evidence |= {"outside": one.outside, "rows": float(one.rows)}
            text = f"{name} against the data before champion {self.version}: "
            if name in own:
                bound = self.bounds[str(self.version)][name]
                told = text + f"population stability index {one.psi:.3f}, beyond that of the days before it ({bound:.3f})"
                found += self._condition(at, "feature", name, "psi", one.psi, bound, told, evidence | {"severity": own[name]})
            found += self._broken(at, name, one, text, evidence)
        return found

    def _broken(self, at: Coordinates, name: str, one: Shift, text: str, evidence: Mapping[str, float]) -> list[Finding]:
        """Hold shares of missing and unknown values, and the scale, against what was usual in the reference's windows."""
        usual = self.usual[str(self.version)][name]
        distance, bound = usual.missing(one.missing, one.rows, self.settings.missing_shift)
        told = text + f"{one.missing:.1%} missing, usually {usual.missing_low:.1%} to {usual.missing_high:.1%}"
        gone: Severity = "alarm" if distance > _GONE and one.missing > one.missing_reference else "warning"
        found = [*self._condition(at, "missing", name, "missing_share", distance, bound, told, evidence, gone)]
        if one.scale is not None:
            is_other = bool(one.scale.units) and one.scale.factor_log > usual.factor_log
            told = text + f"values are {one.scale.factor:.4g} times what they were, as after a change of {one.scale.units}"
            statistic = one.scale.factor_log if is_other else 0.0
            own = {**evidence, "factor": one.scale.factor}
            found += self._condition(at, "units", name, "scale_factor", statistic, usual.factor_log, told, own, "alarm")
        kind: Kind = "category" if one.is_text else "range"
        told = text + f"{one.outside:.1%} of the values outside of what was seen, bound {usual.outside:.1%}"
        return [*found, *self._condition(at, kind, name, "outside_share", one.outside, usual.outside, told, evidence)]

    def streams_quality(self, at: Coordinates, day: int, rows: int, lag_ms: float) -> list[Finding]:
        """Hold what came in a window, of requests and of labels, against the windows before it."""
        window, nothing = self.window, float("nan")
        labels, ended = len(window.delay_ms), len(window.delay_ms) + window.timeouts
        figures: dict[StreamKind, float] = {
            "volume": float(rows),
            "freshness": lag_ms if rows >= _LEAST_ROWS else nothing,
            "labels": float(labels),
            "label_delay": float(np.median(window.delay_ms)) if labels >= _LEAST_ROWS else nothing,
            "label_share": labels / ended if ended >= _LEAST_ROWS else nothing,
        }
        found: list[Finding] = []
        for one in self.streams.close(day, figures):
            stream = self.settings.label_stream if one.kind.startswith("label") else self.settings.ask
            evidence = {one.kind: one.value, "usual": one.usual}
            severity: Severity = "alarm" if one.is_gone else "warning"
            if self.version is not None:
                found += self._condition(at, one.kind, stream, "own_windows", one.distance, one.bound, words_of(one, stream), evidence, severity)
        return found

    def severities(self, shifts: Mapping[str, Shift]) -> dict[str, float]:
        """Return each feature's index in units of its bound, where it has one."""
        bounds = self.bounds.get(str(self.version), {})
        return {name: one.psi / bounds[name] for name, one in shifts.items() if name in bounds}

    def quality(self, at: Coordinates) -> list[Finding]:
        """Hold the metrics of the last labels against their absolute bounds."""
        found: list[Finding] = []
        for one in self.recent.judged(self.settings.kind):
            self.levels[("quality", one.metric)] = 2.0 if one.broken else 0.0
            if self._begins(("quality", one.metric)):
                detail = f"{one.words} over the last {one.labels} labels of champion {self.version}"
                found.append(
                    Finding(self.settings.model, at, "quality", one.metric, "threshold", "alarm", one.value, one.bound, detail, one.evidence)
                )
        return found

    def snapshot(self) -> dict[str, Any]:
        """State without references, as plain lists and numbers."""
        return {
            "version": self.version,
            "sequence": self.sequence,
            "labels": self.labels,
            "next_bootstrap": self.next_bootstrap,
            "window": self.window.snapshot(),
            "references": list(self.references),
            "bounds": self.bounds,
            "usual": {version: {name: one.snapshot() for name, one in some.items()} for version, some in self.usual.items()},
            "streams": self.streams.snapshot(),
            "active": sorted([*key, windows] for key, windows in self.active.items()),
            "recent": self.recent.snapshot(),
            "verdict": self.verdict.snapshot(),
        }

    def load(self, state: Mapping[str, Any], references: Mapping[str, Mapping[str, Summary]]) -> None:
        """Take the state of a snapshot."""
        self.version, self.sequence, self.labels = state["version"], state["sequence"], state["labels"]
        self.next_bootstrap = state["next_bootstrap"]
        self.window = WindowRows.load(state["window"])
        self.references = {version: references[version] for version in state["references"]}
        self.bounds = {version: dict(state["bounds"][version]) for version in state["references"]}
        self.usual = {version: {name: QualityBounds.load(one) for name, one in state["usual"][version].items()} for version in state["references"]}
        self.streams = StreamQuality.load(state["streams"])
        self.active = {(kind, name): windows for kind, name, windows in state["active"]}
        self.recent.load(state["recent"])
        self.verdict.load(state["verdict"])

    def _bootstrap(self, rows: OutcomeRows, labelled: NDArray[np.bool_]) -> list[Finding]:
        found = []
        places = np.flatnonzero(labelled)
        while self.version is None and self.labels + places.size >= self.next_bootstrap:
            row, needed = int(places[self.next_bootstrap - self.labels - 1]), self.next_bootstrap
            at = Coordinates(int(rows.at.time_ms[row]), int(rows.at.partition[row]), int(rows.at.offset[row]))
            self.next_bootstrap = int(np.ceil(needed * _BOOTSTRAP_AGAIN))
            detail = f"{needed} labels have come and no model serves: time for a first one"
            evidence = {"labels": float(needed)}
            bound = float(self.settings.bootstrap_labels)
            found.append(Finding(self.settings.model, at, "bootstrap", "labels", "threshold", "info", float(needed), bound, detail, evidence))
        self.labels += places.size
        return found

    def _condition(
        self,
        at: Coordinates,
        kind: Kind,
        name: str,
        detector: str,
        statistic: float,
        bound: float,
        detail: str,
        evidence: Mapping[str, float],
        severity: Severity = "warning",
    ) -> Sequence[Finding]:
        self.levels[(kind, name)] = statistic / bound
        if not self._begins((kind, name)):
            return []
        return [Finding(self.settings.model, at, kind, name, detector, severity, statistic, bound, detail, evidence)]

    def _begins(self, key: tuple[str, str]) -> bool:
        """Whether a condition begins with this window; one that lasts ends with the third window below half of its bound."""
        level = self.levels[key]
        if key in self.active:
            self.active[key] = self.active[key] + 1 if level < _CALM_LEVEL else 0
            if self.active[key] >= CALM_WINDOWS:
                del self.active[key]
            return False
        if level > 1:
            self.active[key] = 0
            return True
        return False


def _labels(kind: kinds.Kind, rows: OutcomeRows, mine: NDArray[np.bool_], served: NDArray[np.bool_]) -> tuple[Placed, Labels]:
    """Return the coordinates of a model's outcomes, and those that are labels of its champion with scores that say something."""
    scores = rows.scores_of(kind, served)
    usable = kind.is_score(scores)
    places, of = np.flatnonzero(mine), np.flatnonzero(served)[usable]
    at = Placed(rows.at.place[places], rows.at.time_ms[places], rows.at.partition[places], rows.at.offset[places])
    labels = Labels(
        np.searchsorted(places, of),
        rows.request_ms[of],
        rows.at.partition[of],
        rows.request[of],
        rows.label[of],
        scores[usable],
        rows.predicted[of],
        rows.revision[of],
    )
    return at, labels


def feature_columns(settings: Sequence[WatchSettings], types: Mapping[str, str]) -> dict[str, list[FeatureColumn]]:
    """Columns to summarise by asking stream: those that some model of it reads, in the vector's order."""
    found: dict[str, list[FeatureColumn]] = {}
    for ask in dict.fromkeys(one.ask for one in settings):
        wanted = {name for one in settings if one.ask == ask for name in one.features}
        found[ask] = [FeatureColumn(name, "string" if kind == "string" else "double") for name, kind in types.items() if name in wanted]
    return found
