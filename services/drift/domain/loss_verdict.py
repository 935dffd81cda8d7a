"""One verdict on a champion's loss: by its days where labels cluster by day, else label by label."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from tidemill.services.drift.domain.day_standards import CalibratedDays, SelfStartingDays
from tidemill.services.drift.domain.excess_loss import DAY_MS, MOST_LABELS, ExcessLoss, request_ids
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.label_changes import LabelChanges, Rise
from tidemill.services.drift.domain.promise import Promise, promise_of
from tidemill.services.drift.domain.rounded_counts import RoundedCounts
from tidemill.services.drift.domain.rows import MergedCoordinates
from tidemill.services.drift.domain.waiting_labels import Labels
from tidemill.shared.detectors.catalogue import DetectorChoice
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind

_MATURED = 0.95
_HORIZON_DAYS = 7
# Labels that a day may hold however many days wait for their horizon.
_LEAST_KEPT = 20_000
LOSS_SUBJECTS = ("excess_loss", "error_rate", "relative_error", "absolute_error")
"""What findings on the loss are about."""


@dataclass(frozen=True, slots=True)
class LossSettings:
    """How a model's loss is watched.

    Attributes
    ----------
    kind
        What the model answers.
    max_delay_ms, silence_is_a_label, corrections
        Time-out of a label, whether it means one, and whether a later label replaces one.
    detectors
        On labels that do not cluster by day.
    clusters
        Whether labels cluster by day: as the days tell, or as the application says.
    false_alarm_days
        Mean days between two alarms of a calibrated model, by its days.
    tolerance
        Excess loss of days that is none yet, as a share of the loss that the probabilities make expected.
    """

    kind: Kind = field(default_factory=Binary)
    max_delay_ms: int = 0
    silence_is_a_label: bool = False
    corrections: bool = False
    detectors: tuple[DetectorChoice, ...] = ()
    clusters: Literal["auto", "by_day", "none"] = "auto"
    false_alarm_days: float = 3650.0
    tolerance: float = 0.0


@dataclass(slots=True)
class LossVerdict:
    """Days and labels of one champion, and the alarm that whichever rings first gives; the other then begins anew.

    Labels are looked at once their horizon has passed: their time-out where silence is a label, else the 95 % quantile of the delays of the last
    seven windows.
    """

    model: str
    settings: LossSettings
    promise: Promise = field(init=False)
    excess: ExcessLoss = field(init=False)
    changes: LabelChanges = field(init=False)
    delays_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.settings
        self.promise = promise_of(settings.kind)
        standard = SelfStartingDays() if settings.kind.name == "regression" else CalibratedDays(settings.tolerance)
        remembered_ms = 2 * settings.max_delay_ms if settings.corrections else 0
        days = 2 + (settings.max_delay_ms + remembered_ms) // DAY_MS
        self.excess = ExcessLoss(settings.false_alarm_days, remembered_ms, max(_LEAST_KEPT, MOST_LABELS // days), standard=standard)
        self.changes = LabelChanges(settings.detectors, self.promise.hold, self.promise.width)
        self._choose()

    def widen(self, kind: Kind) -> None:
        """Take up a kind with more classes."""
        self.settings = replace(self.settings, kind=kind)
        self.promise = promise_of(kind)
        self.changes.widen(self.promise.hold, self.promise.width)

    def outcomes(self, version: str, at: MergedCoordinates, came: Labels) -> list[Finding]:
        """Take a champion's labels into days and into the detectors; what these find, in order.

        Parameters
        ----------
        at
            Coordinates of the model's outcomes in a batch: journal time passes with those that have no label, too.
        came
            The labels among them.
        """
        came = came.later(self.promise.learn(came.label, came.score))
        if len(came.row):
            kept = self.promise.hold(came.label, came.score, came.predicted)
            self.excess.absorb(request_ids(came.partition, came.offset), came.request_ms, kept, came.revision)
        known, horizon_ms = self.settings.clusters != "auto" or self.excess.standard.days_known, self.horizon_ms()
        findings: list[Finding] = []
        # A correction replaces a label that waits, so what came before it is taken first.
        corrections = came.row[came.revision > 0].tolist()
        for begin, end in pairwise(sorted({0, *corrections, len(at.place)})):
            part = came.part(begin, end)
            if begin in corrections:
                self.changes.correct(part)
                part = part.later(1)
            for rise in self.changes.absorb(part, at.time_ms[begin:end], horizon_ms, known):
                self.excess.hush()
                findings.append(self._rise(rise, version, at, begin + rise.row))
        return findings

    def close(self, at: Coordinates, version: str | None, delays_ms: RoundedCounts) -> list[Finding]:
        """Look at the days whose label horizon has passed at the end of a window, in which labels came with these delays."""
        if delays_ms.counts:
            self.delays_ms = [*self.delays_ms, delays_ms.quantile(_MATURED)][-_HORIZON_DAYS:]
        alarm = self.excess.close(at.time_ms, self.horizon_ms())
        self._choose()
        if alarm is None:
            return []
        self.changes.begin()
        since = f"over {alarm.days} days ({alarm.labels} labels)"
        if self.settings.kind.name == "regression":
            detail = (
                f"champion {version} errs more than on the days before, {since}: mean absolute error {alarm.came:.4g}, usual {alarm.promised:.4g}"
            )
            evidence = {"relative_error": alarm.loss, "absolute_error": alarm.came, "usual_error": alarm.promised}
        else:
            promised, came = ("error promised", "error rate") if self.settings.kind.has_classes else ("mean score", "rate")
            detail = f"champion {version} errs more than it promises {since}: excess loss {alarm.loss:.4f}"
            detail += f", {promised} {alarm.promised:.3f}, {came} {alarm.came:.3f}"
            evidence = {"excess_loss": alarm.loss, "score_mean": alarm.promised, "positive_rate": alarm.came}
            if self.settings.kind.has_classes:
                evidence = {"excess_loss": alarm.loss, "error_promised": alarm.promised, "error_rate": alarm.came}
        evidence |= {"days": float(alarm.days), "labels": float(alarm.labels), "spread": alarm.spread, "clustered": float(self.changes.resting)}
        subject = "absolute_error" if self.settings.kind.name == "regression" else "excess_loss"
        return [Finding(self.model, at, "loss", subject, "day_cusum", "alarm", alarm.statistic, alarm.bound, detail, evidence)]

    def reset(self) -> None:
        """Begin anew for a new champion; how long labels take and how much days differ is kept."""
        self.promise.reset()
        self.excess.reset()
        self.changes.reset()

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        return {"promise": self.promise.snapshot(), "excess": self.excess.snapshot(), "changes": self.changes.snapshot(), "delays_ms": self.delays_ms}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.promise.load(state["promise"])
        self.excess.load(state["excess"])
        self.changes.load(state["changes"])
        self.delays_ms = list(state["delays_ms"])

    def _choose(self) -> None:
        """Let days speak alone where labels cluster by day."""
        self.changes.rest(self.excess.standard.clustered if self.settings.clusters == "auto" else self.settings.clusters == "by_day")

    def _rise(self, rise: Rise, version: str, at: MergedCoordinates, row: int) -> Finding:
        place = Coordinates(int(at.time_ms[row]), int(at.partition[row]), int(at.offset[row]))
        before, after, subject = rise.change.mean_before, rise.change.mean_after, rise.subject
        if subject == "excess_loss":
            before, after = 2 * before - 1, 2 * after - 1
            subject = "relative_error" if self.settings.kind.name == "regression" else subject
        what = subject.replace("_", " ")
        detail = f"champion {version} errs more than before: {what} {after:.4f} over the last {rise.change.width_after} labels"
        detail += f", {before:.4f} over {rise.change.width_before} before them"
        evidence = {"mean_before": before, "mean_after": after, "labels": float(rise.labels), "spread": self.excess.standard.spread}
        evidence |= {"labels_before": float(rise.change.width_before), "labels_after": float(rise.change.width_after)}
        evidence |= {"days_known": float(self.excess.standard.days_known), "clustered": 0.0}
        return Finding(self.model, place, "loss", subject, rise.detector, "alarm", after, before, detail, evidence)

    def horizon_ms(self) -> int:
        """Return how old a request must be for its label to be known unless it is one of the latest 5 %: by the last week's delays."""
        longest = self.settings.max_delay_ms
        if self.settings.silence_is_a_label or not self.delays_ms:
            return longest
        return min(longest, int(max(self.delays_ms)))
