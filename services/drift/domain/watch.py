"""Watches one model: who serves, whether its loss has changed, whether its inputs still look like what it learned from."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.answer_shifts import AnswerShifts
from tidemill.services.drift.domain.broken_values import BrokenValues
from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.data_quality import QualityBounds, with_reach
from tidemill.services.drift.domain.estimated_loss import EstimatedLoss
from tidemill.services.drift.domain.feature_shifts import FeatureShifts
from tidemill.services.drift.domain.findings import Coordinates, Finding, Kind
from tidemill.services.drift.domain.importance import Importance
from tidemill.services.drift.domain.loss_verdict import LOSS_SUBJECTS, LossVerdict
from tidemill.services.drift.domain.null_shifts import NullShifts
from tidemill.services.drift.domain.quality import WindowRows
from tidemill.services.drift.domain.recent_labels import RecentLabels
from tidemill.services.drift.domain.rows import OutcomeRows
from tidemill.services.drift.domain.scale import UsualScale
from tidemill.services.drift.domain.shifts import Shift, Summary
from tidemill.services.drift.domain.slice_watch import SliceWatch
from tidemill.services.drift.domain.stream_ends import EndedStreams
from tidemill.services.drift.domain.stream_watch import StreamWatch
from tidemill.services.drift.domain.unknown_classes import UnknownClasses
from tidemill.services.drift.domain.waiting_labels import labels_of
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.shared.kinds.multiclass import Multiclass

_REFERENCES_KEPT = 8
_BOOTSTRAP_AGAIN = 1.25


@dataclass(slots=True)
class ModelWatch:
    """Fold over one model's predictions and outcomes.

    The champion is read from the answers themselves (variant, version, deployment sequence), which are in journal order; the
    deployments topic is not, so following it would make results depend on when it was read.
    """

    settings: WatchSettings
    version: str | None = None
    sequence: int = -1
    labels: int = 0
    next_bootstrap: int = 0
    window: WindowRows = field(default_factory=WindowRows)
    references: dict[str, Mapping[str, Summary]] = field(default_factory=dict)
    nulls: dict[str, NullShifts] = field(default_factory=dict)
    usual: dict[str, dict[str, QualityBounds]] = field(default_factory=dict)
    scales: dict[str, dict[str, UsualScale]] = field(default_factory=dict)
    estimates: EstimatedLoss = field(default_factory=EstimatedLoss)
    importance: Importance | None = None
    slices: SliceWatch | None = None
    unknown: UnknownClasses | None = None
    conditions: Conditions = field(init=False)
    shifts: FeatureShifts = field(init=False)
    answers: AnswerShifts = field(init=False)
    streams: StreamWatch = field(init=False)
    recent: RecentLabels = field(init=False)
    verdict: LossVerdict = field(init=False)

    def __post_init__(self) -> None:
        own = self.settings
        self.next_bootstrap = self.next_bootstrap or own.bootstrap_labels
        self.conditions = Conditions(own.model)
        self.shifts = FeatureShifts(own.psi, own.min_rows)
        self.answers = AnswerShifts(own.kind, own.psi, own.min_rows)
        self.streams = StreamWatch(own.ask, own.label_stream)
        self.slices = SliceWatch(own) if own.slices else None
        self.unknown = UnknownClasses(own.model, own.label_stream, own.labels_of_class) if own.kind.is_learned else None
        self.recent = RecentLabels(own.bounds_of_metrics, own.recent_labels)
        self.verdict = LossVerdict(own.model, own.loss)

    @property
    def reference(self) -> Mapping[str, Summary]:
        """Summaries of what the champion learned from; empty without one."""
        return {} if self.version is None else self.references[self.version]

    def promote(
        self,
        version: str,
        sequence: int,
        seen: Mapping[str, Summary],
        null: Mapping[str, Sequence[Sequence[float]]],
        daily: Mapping[str, Mapping[str, Sequence[float]]],
        scales: Mapping[str, UsualScale],
        classes: Sequence[str] = (),
    ) -> None:
        """Take note of a new champion, of its training data (what had been seen), their days (`null`, `daily`) and usual scales, and of its classes.

        After a roll-back the champion is one that served before: it keeps the reference it had, and neither `seen` nor `scales` is read.
        """
        self.sequence = sequence
        if version == self.version:
            return
        if self.slices is not None:
            self.slices.promote(self.reference)
        if self.unknown is not None:
            self.unknown.promote(classes)
        self.version = version
        if version in self.references:
            self.references[version] = self.references.pop(version)
        else:
            self.references[version] = {name: with_reach(seen[name], daily.get(name, {})) for name in self.settings.features}
            self.usual[version] = {
                name: QualityBounds.of(daily.get(name, {}), seen[name].missing_share, self.settings.outside) for name in self.settings.features
            }
            self.scales[version] = {name: scales[name] for name in self.settings.features if name in scales}
            warned = [name for name in self.settings.features if name not in self.settings.shown_only]
            self.nulls[version] = NullShifts.of({name: null.get(name, ()) for name in warned})
        for oldest in list(self.references)[:-_REFERENCES_KEPT]:
            del self.references[oldest], self.nulls[oldest], self.usual[oldest], self.scales[oldest]
        self.conditions.active.clear()
        self.shifts.begin(self.nulls[version])
        self.answers.begin()
        # Of several classes no one number is the answer.
        self.importance = None if self.settings.kind.has_classes else Importance(self.settings.features)
        self.estimates = EstimatedLoss()
        self.recent.clear()
        self.verdict.reset()

    def widen(self, classes: Sequence[str]) -> None:
        """Take note of classes that a version has answered which nobody knew before: those known, and more at their end."""
        kind = Multiclass(tuple(classes), is_learned=True)
        self.settings = replace(self.settings, kind=kind, loss=replace(self.settings.loss, kind=kind))
        self.answers.kind = kind
        if self.slices is not None:
            self.slices.settings = self.settings
        self.window.widen(kind)
        self.recent.widen(kind)
        self.verdict.widen(kind)

    def outcomes(self, rows: OutcomeRows, mine: NDArray[np.bool_]) -> list[Finding]:
        """Absorb outcomes in order: labels, silence that is one, and corrections, which replace; time-outs without a label are counted.

        Outcomes of requests whose answer hides the label are passed over. Figures weigh the others by how many requests they stand for. The excess
        loss does not: its mean is zero whatever the scores are whose labels are seen, and weights would only make it less sure.
        """
        kind = self.settings.kind
        joined = mine & (rows.status != "unmatched") & (rows.weight > 0)
        labelled = joined & kind.is_label(rows.label)
        timeouts = joined & (rows.revision == 0) & np.isnan(rows.label)
        # Labels of classes that nobody knows yet are what the first ones are learned from.
        came = joined & ~np.isnan(rows.label) if kind.is_learned else labelled
        self.window.outcomes(kind, rows, labelled, int(timeouts.sum()), came)
        if self.slices is not None:
            self.slices.outcomes(rows, labelled, timeouts)
        first = came & (rows.revision == 0)
        if self.unknown is not None:
            self.unknown.absorb(rows.label_class.filter(pa.array(first)).to_pylist(), rows.request_ms[first].tolist())
        findings = self._counted(rows, first)
        if self.version is not None:
            served = labelled & (rows.variant == "champion") & (rows.version == self.version)
            findings += self.verdict.outcomes(self.version, *labels_of(kind, rows, mine, served))
            self.recent.absorb(kind, rows, served)
        return findings

    def shifted(self, at: Coordinates, shifts: Mapping[str, Shift], *, tested: bool) -> list[Finding]:
        """Hold the distributions of a window, whether it is to be `tested` or not, against the reference's own windows."""
        if self.version is None:
            return []
        importance = self.importance.shares() if self.importance is not None else {}
        unharmed = self.estimates.unharmed()
        return self.shifts.look(at, self.version, self.conditions, shifts, importance=importance, unharmed=unharmed, tested=tested)

    def answers_shifted(self, at: Coordinates, day: int) -> list[Finding]:
        """Hold the distribution of the champion's answers against what it answered before."""
        if self.version is None:
            return []
        return self.answers.close(at, self.version, day, self.conditions, self.estimates.unharmed())

    def broken(self, at: Coordinates, day: Mapping[str, Summary], window: Mapping[str, Summary], ended: Set[str] = frozenset()) -> list[Finding]:
        """Hold a day's missing and unknown values, and its scale and that of the window it ends, against the days of the reference.

        Parameters
        ----------
        ended
            Features that are made of streams which had ended.
        """
        version, own = str(self.version), self.settings
        values = BrokenValues(
            version, self.references[version], self.usual[version], self.scales[version], own.min_rows, own.missing_shift, own.unbounded
        )
        return values.look(at, self.conditions, day, window, ended)

    def streams_quality(self, at: Coordinates, day: int, hours: Sequence[int], lag_ms: float, ended: EndedStreams) -> list[Finding]:
        """Hold what came in a window, of requests (by hour) and of labels, against the windows before it; of streams that had ended nothing."""
        return self.streams.close(at, self.conditions, self.window, day, hours, lag_ms, judged=self.version is not None, ended=ended)

    def sliced(self, at: Coordinates, day: int) -> list[Finding]:
        """Hold the slices' values and what they bring against what was usual of them; after the whole, whose findings are not repeated."""
        if self.slices is None:
            return []
        usual = {} if self.version is None else self.usual[self.version]
        return self.slices.close(at, self.conditions, day, self.reference, usual, self.streams.measured)

    def unknown_classes(self, at: Coordinates, day: int) -> list[Finding]:
        """Say which labels of a week are of classes that the champion does not know, and which of these can be learned."""
        return [] if self.unknown is None else self.unknown.close(at, self.version, day, self.conditions, self.verdict.horizon_ms())

    def loss(self, at: Coordinates) -> list[Finding]:
        """Look at the days whose label horizon has passed; what rang for this champion goes on as long as it errs."""
        self.window.corrections_passed_over = self.verdict.changes.passed()
        finding = self.verdict.close(at, self.version, self.window.delay_ms)
        level = self.verdict.excess.level
        if level is not None:
            self.conditions.levels |= {("loss", subject): level for subject in LOSS_SUBJECTS}
        return finding

    def quality(self, at: Coordinates) -> list[Finding]:
        """Hold the metrics of the last labels against their absolute bounds."""
        findings: list[Finding] = []
        for one in self.recent.judged(self.settings.kind):
            if self.conditions.begins("quality", one.metric, 2.0 if one.broken else 0.0, 1.0):
                detail = f"{one.words} over the last {one.labels} labels of champion {self.version}"
                findings.append(
                    Finding(self.settings.model, at, "quality", one.metric, "threshold", "alarm", one.value, one.bound, detail, one.evidence)
                )
        return findings

    def snapshot(self) -> dict[str, Any]:
        """State without references, as plain lists and numbers."""
        if self.slices is not None:
            self.slices.values.settle(self.reference)
        return {
            "classes": list(self.settings.kind.classes) if self.settings.kind.is_learned else [],
            "version": self.version,
            "sequence": self.sequence,
            "labels": self.labels,
            "next_bootstrap": self.next_bootstrap,
            "window": self.window.snapshot(),
            "references": list(self.references),
            "nulls": {version: one.snapshot() for version, one in self.nulls.items()},
            "usual": {version: {name: one.snapshot() for name, one in some.items()} for version, some in self.usual.items()},
            "scales": {version: {name: one.snapshot() for name, one in some.items()} for version, some in self.scales.items()},
            "estimates": self.estimates.snapshot(),
            "importance": None if self.importance is None else self.importance.snapshot(),
            "conditions": self.conditions.snapshot(),
            "shifts": self.shifts.snapshot(),
            "answers": self.answers.snapshot(),
            "streams": self.streams.snapshot(),
            "slices": None if self.slices is None else self.slices.snapshot(),
            "unknown": None if self.unknown is None else self.unknown.snapshot(),
            "recent": self.recent.snapshot(),
            "verdict": self.verdict.snapshot(),
        }

    def load(self, state: Mapping[str, Any], references: Mapping[str, Mapping[str, Summary]]) -> None:
        """Take the state of a snapshot."""
        if state["classes"]:
            self.widen(state["classes"])
        self.version, self.sequence, self.labels = state["version"], state["sequence"], state["labels"]
        self.next_bootstrap = state["next_bootstrap"]
        self.window = WindowRows.load(state["window"])
        self.references = {version: references[version] for version in state["references"]}
        self.nulls = {version: NullShifts.load(state["nulls"][version]) for version in state["references"]}
        self.usual = {version: {name: QualityBounds.load(one) for name, one in state["usual"][version].items()} for version in state["references"]}
        self.scales = {version: {name: UsualScale.load(one) for name, one in state["scales"][version].items()} for version in state["references"]}
        self.estimates = EstimatedLoss.load(state["estimates"])
        own = state["importance"]
        self.importance = None if own is None else Importance.load(self.settings.features, own)
        self.conditions.load(state["conditions"])
        self.shifts.load(state["shifts"], NullShifts() if self.version is None else self.nulls[self.version])
        self.answers.load(state["answers"])
        self.streams.load(state["streams"])
        if self.slices is not None:
            self.slices.load(state["slices"])
        if self.unknown is not None:
            self.unknown.load(state["unknown"])
        self.recent.load(state["recent"])
        self.verdict.load(state["verdict"])

    def _counted(self, rows: OutcomeRows, labelled: NDArray[np.bool_]) -> list[Finding]:
        """Count first labels, and ask for a training when enough have come: for a first model, or since the last time."""
        findings, places, before, own = [], np.flatnonzero(labelled), self.labels, self.settings
        self.labels += places.size
        while self.version is None and self.labels >= self.next_bootstrap:
            needed = self.next_bootstrap
            self.next_bootstrap = int(np.ceil(needed * _BOOTSTRAP_AGAIN))
            detail = f"{needed} labels have come and no model serves: time for a first one"
            findings.append(self._asking(rows, int(places[needed - before - 1]), "bootstrap", needed, own.bootstrap_labels, detail))
        if self.version is not None and own.labels is not None:
            for count in range((before // own.labels + 1) * own.labels, self.labels + 1, own.labels):
                detail = f"{own.labels} more labels have come, {count} in all"
                findings.append(self._asking(rows, int(places[count - before - 1]), "label_volume", count, own.labels, detail))
        return findings

    def _asking(self, rows: OutcomeRows, row: int, kind: Kind, count: int, bound: int, detail: str) -> Finding:
        at = Coordinates(int(rows.at.time_ms[row]), int(rows.at.partition[row]), int(rows.at.offset[row]))
        return Finding(self.settings.model, at, kind, "labels", "threshold", "info", float(count), float(bound), detail, {"labels": float(count)})
