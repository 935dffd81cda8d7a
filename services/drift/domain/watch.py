"""Watches one model: who serves, whether its loss has changed, whether its inputs still look like what it learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.data_quality import QualityBounds, Scale, outside_shares, scales
from tidemill.services.drift.domain.estimated_loss import EstimatedLoss
from tidemill.services.drift.domain.features import FeatureColumn
from tidemill.services.drift.domain.findings import Coordinates, Finding, Kind, Severity
from tidemill.services.drift.domain.importance import Importance
from tidemill.services.drift.domain.incidents import CALM_WINDOWS
from tidemill.services.drift.domain.loss_verdict import LOSS_SUBJECTS, LossSettings, LossVerdict
from tidemill.services.drift.domain.null_shifts import NullShifts, level
from tidemill.services.drift.domain.quality import WindowRows
from tidemill.services.drift.domain.recent_labels import MetricBound, RecentLabels
from tidemill.services.drift.domain.rows import MergedCoordinates, OutcomeRows
from tidemill.services.drift.domain.shifts import Shift, Summary
from tidemill.services.drift.domain.silence import Silence, words_of_pause
from tidemill.services.drift.domain.stream_quality import StreamKind, StreamQuality, words_of
from tidemill.services.drift.domain.waiting_labels import Labels
from tidemill.shared.kinds import kind as kinds
from tidemill.shared.statistics.eprocess import discoveries
from tidemill.shared.statistics.histogram import Tally

_REFERENCES_KEPT = 8
_BOOTSTRAP_AGAIN = 1.25
_CALM_LEVEL = 0.5
_GONE = 0.5
_JUST_BEYOND = 1.0 + 1e-9
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
    block_ms
        Length of a block of requests in trials of challengers.
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
    shown_only: frozenset[str] = frozenset()
    block_ms: int = 86_400_000


@dataclass(slots=True)
class ModelWatch:
    """Fold over one model's predictions and outcomes.

    The champion is read from the answers themselves (variant, version, deployment sequence), which are in journal order; the
    deployments topic is not, so following it would make results depend on when it was read.

    Findings of a condition that lasts (a shifted feature, an AUC below its bound) are given when it begins and again only after it has
    been below half of its bound for three windows: PSI is above its bound on nearly every day of a real year.

    Attributes
    ----------
    shown
        Shifts that were told for information only, with the look at which they were.
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
    nulls: dict[str, NullShifts] = field(default_factory=dict)
    looks: int = 0
    found: int = 0
    severities: dict[str, float] = field(default_factory=dict)
    ranked: dict[str, float] = field(default_factory=dict)
    usual: dict[str, dict[str, QualityBounds]] = field(default_factory=dict)
    streams: StreamQuality = field(default_factory=StreamQuality)
    estimates: EstimatedLoss = field(default_factory=EstimatedLoss)
    importance: Importance | None = None
    shown: dict[str, int] = field(default_factory=dict)
    silence: Silence = field(default_factory=Silence)
    silent: bool = False
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
        null: Mapping[str, Sequence[Sequence[float]]],
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
            warned = [name for name in self.settings.features if name not in self.settings.shown_only]
            self.nulls[version] = NullShifts.of({name: null.get(name, ()) for name in warned})
        for oldest in list(self.references)[:-_REFERENCES_KEPT]:
            del self.references[oldest], self.nulls[oldest], self.usual[oldest]
        self.looks = self.found = 0
        self.active.clear()
        self.shown.clear()
        # Of several classes no one number is the answer.
        self.importance = None if self.settings.kind.classes else Importance(self.settings.features)
        self.estimates = EstimatedLoss()
        self.recent.clear()
        self.verdict.reset()

    def outcomes(self, rows: OutcomeRows, mine: NDArray[np.bool_]) -> list[Finding]:
        """Absorb outcomes in order: labels, silence that is one, and corrections, which replace; time-outs without a label are counted.

        Outcomes of requests whose answer hides the label are passed over. Figures weigh the others by how many requests they stand for. The excess
        loss does not: its mean is zero whatever the scores are whose labels are seen, and weights would only make it less sure.
        """
        kind = self.settings.kind
        joined = mine & (rows.status != "unmatched") & (rows.weight > 0)
        labelled = joined & kind.is_label(rows.label)
        self.window.outcomes(kind, rows, labelled, int((joined & (rows.revision == 0) & np.isnan(rows.label)).sum()))
        found = self._bootstrap(rows, labelled & (rows.revision == 0))
        if self.version is not None:
            served = labelled & (rows.variant == "champion") & (rows.version == self.version)
            found += self.verdict.outcomes(self.version, *_labels(kind, rows, mine, served))
            self.recent.absorb(kind, rows, served)
        return found

    def shifted(self, at: Coordinates, shifts: Mapping[str, Shift], *, tested: bool) -> list[Finding]:
        """Hold the distributions of a window against the reference's own windows: e-BH over the features, e-LOND over the champion's windows.

        Parameters
        ----------
        tested
            Whether the window has its length.
        """
        log_e = self.nulls[str(self.version)].log_e(shifts) if self.version is not None and tested else {}
        log_e = {name: value for name, value in log_e.items() if shifts[name].rows >= self.settings.min_rows}
        self.severities, self.ranked = {}, {}
        if not log_e:
            return []
        self.looks += 1
        shares = self.importance.shares() if self.importance is not None else {}
        least, unharmed = level(self.looks, self.found), self.estimates.unharmed()
        names = list(log_e)
        rejected = discoveries([log_e[name] for name in names], least)
        needed = float(np.log(len(names) / least))
        found: list[Finding] = []
        for name, is_found in zip(names, rejected.tolist(), strict=True):
            one = shifts[name]
            large = one.psi > self.settings.psi
            # A rejection is one whatever its place in the ranking that e-BH rejects by: in units of the bound it is beyond 1.
            severity = max(0.0, log_e[name] / needed)
            severity = max(severity, _JUST_BEYOND) if is_found and large else min(severity, 1.0)
            self.severities[name] = severity
            if shares:
                self.ranked[name] = severity * shares[name]
            evidence = {"psi": one.psi, "js": one.js, "ks": one.ks, "chi2": one.chi2, "log_e": log_e[name], "rows": float(one.rows)}
            evidence |= {"importance": shares[name]} if shares else {}
            told = f"{name} against the data before champion {self.version}: population stability index {one.psi:.3f}, largest difference of the"
            told += f" cumulative shares {one.ks:.3f}; windows of the reference differ less (log e {log_e[name]:.1f})"
            if unharmed is not None and ("feature", name) not in self.active and severity > _CALM_LEVEL:
                found += self._shown(at, name, severity, unharmed, told, evidence)
                continue
            self.shown.pop(name, None)
            found += self._condition(at, "feature", name, "e_lond", severity, 1.0, told, evidence)
        self.found += len(found)
        return sorted(found, key=lambda finding: -self.ranked.get(finding.subject, finding.statistic))

    def _shown(
        self, at: Coordinates, name: str, severity: float, unharmed: tuple[float, float], told: str, evidence: Mapping[str, float]
    ) -> list[Finding]:
        """Say once, for information, that a feature has shifted while the answers are estimated to be as good as before."""
        if severity <= 1 or name in self.shown:
            return []
        self.shown[name] = self.looks
        before, now = unharmed
        told += f"; no warning: the estimated Brier loss of its answers is {now:.4f} in the last windows, {before:.4f} before"
        more = {**evidence, "estimated_brier": now, "estimated_brier_before": before}
        return [Finding(self.settings.model, at, "feature", name, "e_lond", "info", severity, 1.0, told, more)]

    def broken(self, at: Coordinates, day: Mapping[str, Summary]) -> list[Finding]:
        """Hold a day's missing and unknown values, and its scale, against the days of the reference."""
        reference = self.references[str(self.version)]
        judged = {name: day[name] for name, one in reference.items() if one.rows and day[name].rows >= self.settings.min_rows}
        outside, factors = outside_shares(reference, judged), scales(reference, judged)
        found: list[Finding] = []
        for name, one in judged.items():
            found += self._broken(at, name, reference[name], one, outside[name], factors.get(name))
        return found

    def _broken(self, at: Coordinates, name: str, reference: Summary, day: Summary, outside: float, factor: Scale | None) -> list[Finding]:
        """Hold one feature against what was usual."""
        missing, usual = day.missing_share, self.usual[str(self.version)][name]
        distance, missing_bound = usual.missing(missing, day.rows, self.settings.missing_shift)
        gone: Severity = "alarm" if distance > _GONE and missing > reference.missing_share else "warning"
        found: list[Finding] = []

        def hold(kind: Kind, detector: str, statistic: float, bound: float, told: str, severity: Severity = "warning", **more: float) -> None:
            evidence = {"missing": missing, "missing_reference": reference.missing_share, "outside": outside, "rows": float(day.rows), **more}
            text = f"{name} against the data before champion {self.version}: {told}"
            found.append(Finding(self.settings.model, at, kind, name, detector, severity, statistic, bound, text, evidence))

        if self._begins("missing", name, distance, missing_bound):
            told = f"{missing:.1%} missing, usually {usual.missing_low:.1%} to {usual.missing_high:.1%}"
            hold("missing", "missing_share", distance, missing_bound, told, gone)
        if factor is not None:
            is_other = bool(factor.units) and factor.factor_log > usual.factor_log
            statistic = factor.factor_log if is_other else 0.0
            if self._begins("units", name, statistic, usual.factor_log):
                told = f"values are {factor.factor:.4g} times what they were, as after a change of {factor.units}"
                hold("units", "scale_factor", statistic, usual.factor_log, told, "alarm", factor=factor.factor)
        kind: Kind = "category" if isinstance(day, Tally) else "range"
        if self._begins(kind, name, outside, usual.outside):
            hold(kind, "outside_share", outside, usual.outside, f"{outside:.1%} of the values outside of what was seen, bound {usual.outside:.1%}")
        return found

    def streams_quality(self, at: Coordinates, day: int, hours: Sequence[int], lag_ms: float) -> list[Finding]:
        """Hold what came in a window, of requests (by hour) and of labels, against the windows before it.

        Volume is judged on whole windows: of one in which the stream went silent the silence is told, as a lack of freshness, and not the rows that
        are missing because of it, nor their labels.
        """
        window, nothing, rows = self.window, float("nan"), sum(hours)
        labels, ended = len(window.delay_ms), len(window.delay_ms) + window.timeouts
        pause = self.silence.close(day, hours)
        was_silent, self.silent = self.silent, pause is not None and pause.is_silent
        figures: dict[StreamKind, float] = {
            "volume": nothing if pause is not None and pause.hides_volume else float(rows),
            "freshness": lag_ms if rows >= _LEAST_ROWS else nothing,
            "labels": nothing if self.silent or was_silent else float(labels),
            "label_delay": float(np.median(window.delay_ms)) if labels >= _LEAST_ROWS else nothing,
            "label_share": labels / ended if ended >= _LEAST_ROWS else nothing,
        }
        measures = self.streams.close(day, figures)
        if self.version is None:
            return []
        found: list[Finding] = []
        for one in measures:
            stream = self.settings.label_stream if one.kind.startswith("label") else self.settings.ask
            if one.kind == "freshness" and pause is not None and pause.share / pause.bound > one.distance / one.bound:
                continue
            evidence = {one.kind: one.value, "usual": one.usual}
            severity: Severity = "alarm" if one.is_gone else "warning"
            found += self._condition(at, one.kind, stream, "own_windows", one.distance, one.bound, words_of(one, stream), evidence, severity)
        if pause is not None and ("freshness", self.settings.ask) not in self.levels:
            stream, evidence = self.settings.ask, {"rows": float(rows), "usual_before": pause.usual_before, "usual_after": pause.usual_after}
            found += self._condition(at, "freshness", stream, "silence", pause.share, pause.bound, words_of_pause(pause, stream), evidence)
        return found

    def loss(self, at: Coordinates) -> list[Finding]:
        """Look at the days whose label horizon has passed; what rang for this champion goes on as long as it errs."""
        found = self.verdict.close(at, self.version, self.window.delay_ms)
        level = self.verdict.excess.level
        if level is not None:
            self.levels |= {("loss", subject): level for subject in LOSS_SUBJECTS}
        return found

    def quality(self, at: Coordinates) -> list[Finding]:
        """Hold the metrics of the last labels against their absolute bounds."""
        found: list[Finding] = []
        for one in self.recent.judged(self.settings.kind):
            if self._begins("quality", one.metric, 2.0 if one.broken else 0.0, 1.0):
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
            "nulls": {version: one.snapshot() for version, one in self.nulls.items()},
            "looks": self.looks,
            "found": self.found,
            "usual": {version: {name: one.snapshot() for name, one in some.items()} for version, some in self.usual.items()},
            "streams": self.streams.snapshot(),
            "estimates": self.estimates.snapshot(),
            "shown": self.shown,
            "importance": None if self.importance is None else self.importance.snapshot(),
            "silence": self.silence.snapshot(),
            "silent": self.silent,
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
        self.nulls = {version: NullShifts.load(state["nulls"][version]) for version in state["references"]}
        self.looks, self.found = state["looks"], state["found"]
        self.usual = {version: {name: QualityBounds.load(one) for name, one in state["usual"][version].items()} for version in state["references"]}
        self.streams = StreamQuality.load(state["streams"])
        own = state["importance"]
        self.importance = None if own is None else Importance.load(self.settings.features, own)
        self.estimates, self.shown = EstimatedLoss.load(state["estimates"]), dict(state["shown"])
        self.silence, self.silent = Silence.load(state["silence"]), bool(state["silent"])
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
        if not self._begins(kind, name, statistic, bound):
            return []
        return [Finding(self.settings.model, at, kind, name, detector, severity, statistic, bound, detail, evidence)]

    def _begins(self, kind: Kind, name: str, statistic: float, bound: float) -> bool:
        """Whether a condition begins with this window; one that lasts ends with the third window below half of its bound."""
        key, level = (kind, name), statistic / bound
        self.levels[key] = level
        if key in self.active:
            self.active[key] = self.active[key] + 1 if level < _CALM_LEVEL else 0
            if self.active[key] >= CALM_WINDOWS:
                del self.active[key]
            return False
        if level > 1:
            self.active[key] = 0
            return True
        return False


def _labels(kind: kinds.Kind, rows: OutcomeRows, mine: NDArray[np.bool_], served: NDArray[np.bool_]) -> tuple[MergedCoordinates, Labels]:
    """Return the coordinates of a model's outcomes, and those that are labels of its champion with scores that say something."""
    scores = rows.scores_of(kind, served)
    usable = kind.is_score(scores)
    places, of = np.flatnonzero(mine), np.flatnonzero(served)[usable]
    at = MergedCoordinates(rows.at.place[places], rows.at.time_ms[places], rows.at.partition[places], rows.at.offset[places])
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
