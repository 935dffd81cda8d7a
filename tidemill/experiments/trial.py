"""One trial: a configuration trained and judged on every fold."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.experiments.configuration import Configuration
from tidemill.experiments.precision_recall import curve
from tidemill.services.retraining.domain.encoding import encode
from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.services.retraining.domain.examples import DAY_MS, Examples
from tidemill.services.retraining.domain.fitting import ClassWeight, fit
from tidemill.services.retraining.domain.folds import Folds
from tidemill.services.retraining.domain.held_out import CLASS_WEIGHT
from tidemill.services.retraining.domain.threshold import best_threshold
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.signature import Column, Signature
from tidemill.shared.statistics.propensity import weighted_mean

_NO_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Rules:
    """What all trials of an experiment share.

    Attributes
    ----------
    rows
        Most rows that a model learns from, spread over its window; 0: all.
    min_each
        Rows that each class needs.
    """

    rows: int
    min_each: int
    class_weight: ClassWeight
    seed: int


@dataclass(frozen=True, slots=True)
class EncodedFold:
    """A fold's rows to learn from, and those it is judged on as a model trained at the fold's begin would be given them."""

    columns: tuple[Column, ...]
    matrix: NDArray[np.float32]
    labels: NDArray[np.float64]
    weights: NDArray[np.float64]
    asked: NDArray[np.float32]


class FoldedRows:
    """The rows of an experiment, cut into folds.

    Encoding a window takes as long as many a fit, so the encoded windows are kept: all configurations of a window share them.
    """

    def __init__(self, examples: Examples, folds: Folds, kind: Kind, rules: Rules) -> None:
        labelled = kind.is_label(examples.labels)
        self._examples = examples if labelled.all() else examples.where(labelled)
        self.folds, self.kind, self.rules = folds, kind, rules
        self.encoded = lru_cache(maxsize=12)(self._encoded)
        self.validation = lru_cache(maxsize=None)(lambda fold: folds.validation(self._examples, fold))

    def _encoded(self, fold: int, window_days: int) -> EncodedFold:
        """Return a fold's matrices.

        Raises
        ------
        TooFewRowsError
            A class has too few rows in the window.
        """
        rows = self.folds.learning(self._examples, fold, window_days)
        if lack := self.kind.lack(rows.labels, self.rules.min_each):
            window = f"{window_days} days" if window_days else "all history"
            raise TooFewRowsError(f"expected {self.rules.min_each} rows of each class in {window} before fold {fold + 1}, found {lack}")
        encoding = encode(rows.features, rows.labels, rows.request_ms, self.kind, rows.weights)
        signature = Signature(model="", version="", family="", columns=encoding.columns, threshold=0.5, parity_rows=(), parity_scores=())
        kept, weights = rows.thinning(self.rules.rows or len(rows), self.kind)
        return EncodedFold(encoding.columns, encoding.matrix[kept], rows.labels[kept], weights, signature.encode(self.validation(fold).features))


def run_trial(bench: FoldedRows, configuration: Configuration) -> dict[str, Any]:
    """Train and judge a configuration on every fold, the newest first.

    Returns
    -------
    dict
        ``loss`` (mean over all judged rows), ``fold_losses``, ``figures`` (of the scores of all folds together, each given by a model that knew no
        label of its future), ``train_s`` (processor time of the newest fold's fit), ``rows`` (it learned from), ``judged``, ``days`` (rows, summed
        loss and summed weight by day) and ``curve`` (recall, precision and threshold; none for regressions).

    Where acting on an answer hides its label, each row counts as many times as it stands for requests: in what is learned and in all figures.

    Raises
    ------
    TooFewRowsError, FamilyError
        It cannot be trained on this.
    """
    kind, scores, seconds, rows, asked_rows = bench.kind, [], [], [], []
    for fold in range(len(bench.folds)):
        data, asked = bench.encoded(fold, configuration.window_days), bench.validation(fold)
        places = [place for place, column in enumerate(data.columns) if column.name in configuration.columns]
        parameters: Mapping[str, Any] = {"family": configuration.family, "window_days": configuration.window_days, **configuration.parameters}
        weight = bench.rules.class_weight if kind.name != "regression" else "none"
        parameters = {**parameters, CLASS_WEIGHT: weight} if weight != "none" else parameters
        matrix = np.ascontiguousarray(data.matrix[:, places])
        begun = time.process_time()
        model = fit(matrix, data.labels, kind, parameters, bench.rules.seed, data.weights, weight)
        seconds.append(time.process_time() - begun)
        rows.append(len(data.labels))
        scores.append(model.predict(np.ascontiguousarray(data.asked[:, places])))
        asked_rows.append(asked)
    return {"train_s": seconds[0], "rows": rows[0], **_judged(kind, asked_rows, scores)}


def _judged(kind: Kind, rows: list[Examples], scores: list[NDArray[np.float64]]) -> dict[str, Any]:
    losses = [kind.losses(part.labels, answer) for part, answer in zip(rows, scores, strict=True)]
    truth, answers, each = np.concatenate([part.labels for part in rows]), np.concatenate(scores), np.concatenate(losses)
    if not kind.is_score(answers).all():
        raise TooFewRowsError(f"expected a score for every row, found none for {int((~kind.is_score(answers)).sum())} of {len(answers)}")
    parts = [part.weights for part in rows if part.weights is not None]
    weights = np.concatenate(parts) if parts else None
    threshold = best_threshold(truth, answers, weights) if kind.name == "binary" and not kind.lack(truth, 1) else _NO_THRESHOLD
    days, place = np.unique(np.concatenate([part.request_ms for part in rows]) // DAY_MS, return_inverse=True)
    stands_for = np.ones(len(truth)) if weights is None else weights
    by_day = (np.bincount(place).tolist(), np.bincount(place, stands_for * each).tolist(), np.bincount(place, stands_for).tolist())
    return {
        "loss": weighted_mean(each, weights),
        "fold_losses": [weighted_mean(loss, part.weights) for loss, part in zip(losses, rows, strict=True)],
        "figures": kind.figures(truth, answers, kind.decide(answers, threshold), weights),
        "judged": len(truth),
        "days": [list(one) for one in zip(days.tolist(), *by_day, strict=True)],
        "curve": curve(kind, truth, answers, weights),
    }
