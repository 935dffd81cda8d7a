"""What the recipes of a search are compared on: stretches of time, each with the rows that a model trained at its begin could learn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.encoding import encode
from tidemill.services.retraining.domain.enough_rows import TooFewRowsError, check_rows, check_validation, window_words
from tidemill.services.retraining.domain.examples import Examples, Split
from tidemill.services.retraining.domain.folds import Folds
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.signature import Signature
from tidemill.shared.statistics.propensity import Weights

_NEWEST_ROWS, _OLDER_ROWS = 25_000, 12_500
_MOST = 3


@dataclass(frozen=True, slots=True)
class LearningWindow:
    """What a model learns from, and the validation rows as its model would be given them: encoded as the refit encodes."""

    matrix: NDArray[np.float32]
    labels: NDArray[np.float64]
    weights: NDArray[np.float64]
    asked: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Examples, validation: Examples, kind: Kind, limit: int) -> "LearningWindow":
        """Encode rows to learn from, `limit` at most, and rows to be judged on."""
        encoding = encode(rows.features, rows.labels, rows.request_ms, kind, rows.weights)
        signature = Signature(model="", version="", family="", columns=encoding.columns, threshold=0.5, parity_rows=(), parity_scores=())
        kept, weights = rows.thinning(limit, kind)
        return cls(encoding.matrix[kept], rows.labels[kept], weights, signature.encode(validation.features))


class Stretches:
    """The stretches of time that recipes are compared on, the newest first.

    A model learns from at most 25,000 rows, for the older stretches from half of that: all recipes alike, so the comparison is fair, and a search
    costs about twice what one stretch costs. A window is encoded when it is first needed.

    Attributes
    ----------
    lacking
        Windows of history (days) that lack a class before the newest stretch, and what they lack; they are not tried.
    windows
        The others.
    validations
        Rows of each stretch.

    Raises
    ------
    TooFewRowsError
        There is not enough before the newest stretch, or in it. An older one that lacks something is left out, with those before it.
    """

    def __init__(self, examples: Examples, split: Split, training: Training, kind: Kind) -> None:
        self._examples, self._training, self._kind = examples, training, kind
        self._windows: dict[tuple[int, int], LearningWindow] = {}
        span, earliest = split.validation_end - split.validation_start, int(examples.request_ms.min(initial=split.validation_start))
        self._folds = Folds.of(split.validation_end, split.gate_start, split.horizon_ms, span, _MOST, earliest)
        check_rows(self._folds.learning(examples, 0, 0), training.min_rows, training, kind, "training")
        check_validation(self._folds.validation(examples, 0), training, kind)
        lacking = {days: kind.lack(self._folds.learning(examples, 0, days).labels, training.min_positives) for days in training.windows_days}
        self.lacking = {days: words for days, words in lacking.items() if words}
        self.windows = tuple(days for days in training.windows_days if days not in self.lacking)
        if not self.windows:
            raise TooFewRowsError(f"expected a window of history with enough of each class, found {window_words(lacking)}")
        count = next((fold for fold in range(1, len(self._folds)) if not self._can_judge(fold)), len(self._folds))
        self.validations = [self._folds.validation(examples, fold) for fold in range(count)]

    @property
    def labels(self) -> NDArray[np.float64]:
        """Labels of all stretches, in their order."""
        return np.concatenate([rows.labels for rows in self.validations])

    @property
    def weights(self) -> Weights:
        """Weights of the rows of all stretches."""
        parts = [rows.weights for rows in self.validations if rows.weights is not None]
        return np.concatenate(parts) if parts else None

    @property
    def request_ms(self) -> NDArray[np.int64]:
        """When the rows of all stretches were asked."""
        return np.concatenate([rows.request_ms for rows in self.validations])

    def window(self, fold: int, days: int) -> LearningWindow:
        """Return what a stretch's models learn from."""
        if (fold, days) not in self._windows:
            rows = self._folds.learning(self._examples, fold, days)
            self._windows[fold, days] = LearningWindow.of(rows, self.validations[fold], self._kind, _OLDER_ROWS if fold else _NEWEST_ROWS)
        return self._windows[fold, days]

    def _can_judge(self, fold: int) -> bool:
        """Whether an older stretch has what the newest one needs: it adds evidence, but its lack ends nothing."""
        try:
            check_rows(self._folds.learning(self._examples, fold, 0), self._training.min_rows, self._training, self._kind, "training")
            check_validation(self._folds.validation(self._examples, fold), self._training, self._kind)
        except TooFewRowsError:
            return False
        learned = (self._folds.learning(self._examples, fold, days).labels for days in self.windows)
        return not any(self._kind.lack(labels, self._training.min_positives) for labels in learned)
