"""What one model served and how it turned out: the window's rows, the last labels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.estimated_error import EstimatedError
from tidemill.services.drift.domain.estimated_quality import EstimatedQuality
from tidemill.services.drift.domain.excess_loss import request_ids
from tidemill.services.drift.domain.labelled_rows import LabelledRows
from tidemill.services.drift.domain.rounded_counts import RoundedCounts
from tidemill.services.drift.domain.rows import OutcomeRows, PredictionRows
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.intervals import interval_figures
from tidemill.shared.statistics.propensity import Weights, weighted_mean

Float64 = NDArray[np.float64]
_REPLAY_MS = 3_600_000


def request_keys(rows: OutcomeRows, chosen: NDArray[np.bool_]) -> list[str]:
    """Return what tells requests apart: journal partition and offset."""
    return [f"{partition}/{offset}" for partition, offset in zip(rows.at.partition[chosen].tolist(), rows.request[chosen].tolist(), strict=True)]


@dataclass(slots=True)
class WindowRows:
    """Everything of one model in the current window.

    Attributes
    ----------
    defaults
        Answers that the fallback gave.
    corrections
        Labels that replaced one.
    corrections_passed_over
        Those of them that came after their request's horizon, when the detectors on single labels had taken the label before.
    labels
        The last label of every request, from 500,000 on of a sample of them.
    delay_ms
        How long labels took, of classes that no version knows too, rounded to three digits.
    unknown_classes
        Labels of classes that no version knows yet, of a model that learns its classes.
    class_counts, class_sums
        Answers by class, and the sums of the classes' probabilities, of a model that has several.
    estimated
        What the champion's probabilities say of its answers, whose labels have yet to come.
    expected
        What a regression's error model says of them.
    latencies
        Answers by latency in milliseconds, rounded down to three digits. A latency of more than an hour is none: the data are replayed.
    """

    versions: dict[str, int] = field(default_factory=dict)
    scores: int = 0
    score_sum: float = 0.0
    latencies: RoundedCounts = field(default_factory=RoundedCounts)
    positives: int = 0
    timeouts: int = 0
    unknown_classes: int = 0
    labels: LabelledRows = field(default_factory=LabelledRows)
    delay_ms: RoundedCounts = field(default_factory=RoundedCounts)
    defaults: int = 0
    corrections: int = 0
    corrections_passed_over: int = 0
    class_counts: list[int] = field(default_factory=list)
    class_sums: list[float] = field(default_factory=list)
    estimated: EstimatedQuality = field(default_factory=EstimatedQuality)
    expected: EstimatedError = field(default_factory=EstimatedError)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.scores or self.labels.count or self.timeouts)

    @property
    def fallback_share(self) -> float:
        """Share of the answers that the fallback gave; 0 without answers."""
        return self.defaults / self.scores if self.scores else 0.0

    @property
    def estimated_loss(self) -> float | None:
        """Loss that the champion itself expects of an answer (Brier loss, of a number the squared error); None where it does not say."""
        return self.estimated.brier if self.estimated.answers else self.expected.loss

    def predictions(self, kind: Kind, rows: PredictionRows, chosen: NDArray[np.bool_]) -> None:
        """Count answers."""
        champion = chosen & (rows.variant == "champion")
        self.estimated.absorb(kind, rows.scores_of(kind, champion), rows.predicted[champion])
        self.expected.absorb(rows.expected_error[champion], rows.expected_squared_error[champion])
        for version in rows.version[chosen].tolist():
            self.versions[version] = self.versions.get(version, 0) + 1
        self.scores += int(chosen.sum())
        # One by one, whatever the batch: a sum of sums has other bits.
        self.score_sum = float(np.add.accumulate([self.score_sum, *_answered(kind, rows.score[chosen]).tolist()])[-1])
        latency = rows.latency_ms[chosen]
        self.latencies.add(latency[(latency >= 0) & (latency <= _REPLAY_MS)])
        self.defaults += int((rows.variant[chosen] == "default").sum())
        self.positives += int((rows.predicted[chosen] > 0).sum())
        if kind.has_classes and chosen.any():
            width = len(kind.classes)
            before = np.array([self.class_sums or [0.0] * width])
            self.class_sums = np.add.accumulate(np.vstack([before, _answered(kind, rows.scores_of(kind, chosen))]))[-1].tolist()
            answers = rows.predicted[chosen]
            counts = np.bincount(np.minimum(answers[answers >= 0], width - 1), minlength=width)
            self.class_counts = (counts + np.array(self.class_counts or [0] * width)).tolist()

    def outcomes(self, kind: Kind, rows: OutcomeRows, labelled: NDArray[np.bool_], timeouts: int, unknown: NDArray[np.bool_] | None = None) -> None:
        """Take the labels that came, and the count of those that never will.

        Silence that is a label is one. A correction replaces the label that its request got in this window; the windows before are closed, so a
        correction of theirs is a label of this one. A label of a class that no version knows is only counted; `unknown` are such.
        """
        self.timeouts += timeouts
        self.corrections += int((labelled & (rows.revision > 0)).sum())
        lower, upper = rows.lower[labelled], rows.upper[labelled]
        bounded = (lower >= kind.least) & (lower <= upper) & (upper <= kind.most)
        requests = request_ids(rows.at.partition[labelled], rows.request[labelled])
        self.labels.absorb(
            requests, rows.label[labelled], rows.scores_of(kind, labelled), rows.predicted[labelled], rows.weight[labelled],
            np.where(bounded, lower, np.nan), np.where(bounded, upper, np.nan), rows.revision[labelled],
        )  # fmt: skip
        came = labelled if unknown is None else labelled | unknown
        self.unknown_classes += int((came & ~labelled).sum())
        self.delay_ms.add(rows.delay_ms[came & np.isfinite(rows.delay_ms)])

    def widen(self, kind: Kind) -> None:
        """Make room for the classes that a kind has more: nobody has answered them until now."""
        self.labels.widen(kind.width)
        if self.class_sums or self.class_counts:
            self.class_sums += [0.0] * (kind.width - len(self.class_sums))
            self.class_counts += [0] * (kind.width - len(self.class_counts))
        self.estimated = EstimatedQuality()

    def served_by(self) -> str | None:
        """Version that gave most answers (ties by name); None without answers."""
        return min(self.versions, key=lambda name: (-self.versions[name], name)) if self.versions else None

    def figures(self, kind: Kind) -> dict[str, float]:
        """Metrics of the window; undefined ones are left out. `labels_sampled` is there where those of labels are of a sample."""
        label, score, predicted = (self.labels.column(name) for name in ("label", "score", "predicted"))
        weights: Weights = self.labels.column("weight") if "weight" in self.labels.columns else None
        labels = self.labels.count
        ended = labels + self.timeouts
        figures = {
            "predictions": float(self.scores),
            "labels": float(labels),
            **({"labels_sampled": float(label.size)} if label.size < labels else {}),
            "timeouts": float(self.timeouts),
            "corrections": float(self.corrections),
            **({"labels_of_unknown_classes": float(self.unknown_classes)} if kind.is_learned else {}),
            "corrections_passed_over": float(self.corrections_passed_over),
            "label_share": labels / ended if ended else float("nan"),
            "score_mean": self.score_sum / self.scores if self.scores else float("nan"),
        }
        if self.scores:
            figures["fallback_share"] = self.defaults / self.scores
        for name, durations, shares in (("latency", self.latencies, (50, 99)), ("label_delay", self.delay_ms, (50, 95))):
            if durations.counts:
                figures |= {f"{name}_p{share}_ms": durations.quantile(share / 100) for share in shares}
        with np.errstate(over="ignore", invalid="ignore"):
            figures |= kind.figures(label, score, predicted, weights) if label.size else {}
            if "lower" in self.labels.columns:
                lower, upper = self.labels.column("lower"), self.labels.column("upper")
                there = ~np.isnan(lower)
                figures |= interval_figures(label[there], lower[there], upper[there])
        figures |= self._shares(kind, label, weights) | self.estimated.figures(kind) | self.expected.figures()
        return {name: value for name, value in figures.items() if np.isfinite(value)}

    def _shares(self, kind: Kind, label: Float64, weights: Weights) -> dict[str, float]:
        """How often each class came and was answered, and the mean of its probability."""
        if kind.name == "binary":
            shares = {"positive_rate": weighted_mean(label, weights)} if label.size else {}
            return shares | ({"predicted_positive_rate": self.positives / self.scores} if self.scores else {})
        shares = {}
        for number, name in enumerate(kind.classes):
            if label.size:
                shares[f"label_share__{name}"] = weighted_mean(label == number, weights)
            if self.class_counts:
                shares[f"predicted_share__{name}"] = self.class_counts[number] / self.scores
                shares[f"score_mean__{name}"] = self.class_sums[number] / self.scores
        return shares

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return own | {name: own[name].snapshot() for name in ("estimated", "expected", "labels", "delay_ms", "latencies")}

    @staticmethod
    def load(state: dict[str, Any]) -> "WindowRows":
        """From a snapshot."""
        counts = {name: RoundedCounts.load(state[name]) for name in ("delay_ms", "latencies")}
        estimates = {"estimated": EstimatedQuality.load(state["estimated"]), "expected": EstimatedError.load(state["expected"])}
        return WindowRows(**state | counts | estimates | {"labels": LabelledRows.load(state["labels"])})


def _answered(kind: Kind, scores: Float64) -> Float64:
    """Return scores with 0 where there is none, or what no answer of the kind is: one record would outweigh all others of its window."""
    return np.where((scores >= kind.least) & (scores <= kind.most), scores, 0.0)
