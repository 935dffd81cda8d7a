"""Whether there are rows enough to learn from and to judge by."""

from collections.abc import Mapping

import numpy as np

from tidemill.services.retraining.domain.examples import Examples
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.kind import Kind


class TooFewRowsError(ValueError):
    """There is not enough to learn from, or to judge by."""


def check_rows(rows: Examples, least: int, training: Training, kind: Kind, what: str) -> None:
    """Refuse fewer than `least` rows, or too few of a class; `what` they are for stands in the message.

    Raises
    ------
    TooFewRowsError
    """
    if len(rows) < least:
        raise TooFewRowsError(f"expected at least {least} {what} rows, found {len(rows)}")
    if lack := kind.lack(rows.labels, training.min_positives):
        words = {"binary": "both classes", "multiclass": "all classes", "regression": "enough labels"}[kind.name]
        raise TooFewRowsError(f"expected {words} among the {what} rows, found {lack}")


def check_validation(rows: Examples, training: Training, kind: Kind) -> None:
    """Refuse what compares nothing.

    A rare class of several may be absent in a week: the loss of the others is one all the same. One class alone compares nothing.

    Raises
    ------
    TooFewRowsError
    """
    if kind.name != "multiclass":
        return check_rows(rows, 1, training, kind, "validation")
    counts = np.bincount(rows.labels.astype(np.int64), minlength=kind.width)
    if (counts >= training.min_positives).sum() < 2:
        counted = ", ".join(f"{count} {name}" for name, count in zip(kind.classes, counts.tolist(), strict=True))
        raise TooFewRowsError(f"expected {training.min_positives} validation rows of two classes or more, found {counted}")
    return None


def window_words(lacking: Mapping[int, str]) -> str:
    """Say of windows of history what they lack."""
    return "; ".join(f"{f'{days} days' if days else 'all history'}: {words}" for days, words in lacking.items())
