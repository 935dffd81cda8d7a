"""What refits of a recipe would have answered: refitted as its rule says, each scoring what was asked before the next."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import Examples, Split
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.onnx_scorer import OnnxScorer

_MOST_FITS = 4


@dataclass(frozen=True, slots=True)
class Walk:
    """Scores of the judged rows, each by a fit that knew no label of its future, and the last of the fits.

    Attributes
    ----------
    scores : shape (n,) or (n, K)
    last
        The fit that answered the last rows.
    last_from_ms
        Instant at which it was made.
    """

    scores: NDArray[np.float64]
    last: OnnxScorer
    last_from_ms: int


def refit_instants(split: Split, every_ms: int | None) -> list[int]:
    """Return when a recipe would have been refitted in the gate's part: at its begin and then at every trigger, four times at most.

    A stretch shorter than half the time between triggers at the end belongs to the fit before it.

    >>> refit_instants(Split(0, 0, 0, 100, 128, 130), 14), refit_instants(Split(0, 0, 0, 100, 128, 130), 20), refit_instants(Split(0, 0, 0, 100, 128, 130), None)
    ([100, 114], [100], [100])
    """  # noqa: E501
    span = split.gate_end - split.gate_start
    step = span if every_ms is None else max(every_ms, -(-span // _MOST_FITS))
    return [at for at in range(split.gate_start, split.gate_end, step) if at == split.gate_start or 2 * (split.gate_end - at) >= step]


def walk_forward(judged: Examples, split: Split, every_ms: int | None, fit_at: Callable[[int], Artifact]) -> Walk:
    """Score rows test-then-train.

    Parameters
    ----------
    judged
        Rows of the gate's part.
    fit_at
        Fits the recipe on what was known at an instant.
    """
    instants = refit_instants(split, every_ms)
    scores: NDArray[np.float64] | None = None
    for at, until in zip(instants, [*instants[1:], split.gate_end], strict=True):
        scorer = OnnxScorer(fit_at(at))
        rows = (judged.request_ms >= at) & (judged.request_ms < until)
        part = scorer.score(judged.where(rows).features)
        if scores is None:
            scores = np.full((len(judged), *part.shape[1:]), np.nan)
        scores[rows] = part
    if scores is None:
        raise ValueError(f"expected a part to judge on, found {split.gate_start} to {split.gate_end}")
    return Walk(scores, scorer, at)
