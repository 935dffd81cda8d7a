"""Whether groups of people are answered too differently: two measures of fairlearn, with intervals over days."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.slices import LEAST_EACH, LEAST_ROWS, Groups
from tidemill.shared.application.gate_policy import Fairness
from tidemill.shared.statistics.blocks import block_indices, drawn_blocks
from tidemill.shared.statistics.propensity import Weights

_REPETITIONS = 500


@dataclass(frozen=True, slots=True)
class FairnessFindings:
    """What was found: why not (empty: nothing), and the figures by column."""

    problem: str
    figures: Mapping[str, float] = field(default_factory=dict)


def judge_fairness(
    labels: NDArray[np.float64],
    predicted: NDArray[np.int32],
    blocks: NDArray[np.int64],
    groups: Groups,
    limits: Fairness,
    weights: Weights = None,
) -> FairnessFindings:
    """Hold the differences between groups of each sensitive column against the limits; refused is what surely exceeds one (95 %).

    Groups with fewer than 200 rows or 30 of a class are not judged. The largest difference of a sample is larger than that of its population, so the
    bound is the reverse percentile one of a bootstrap over blocks.

    Parameters
    ----------
    labels, predicted, blocks : shape (n,)
        Truth and answer, 0 or 1, and the number of the block (day).
    groups
        Rows of each group, by ``column=value`` (`groups_of`).

    References
    ----------
    fairlearn.metrics: demographic_parity_difference, equalized_odds_difference (worst case).
    """
    figures: dict[str, float] = {}
    problems = []
    for column in limits.columns:
        enough = {name: rows for name, rows in groups.items() if name.startswith(f"{column}=") and _is_enough(labels[rows])}
        figures[f"fairness_groups__{column}"] = float(len(enough))
        if len(enough) < 2:
            continue
        own = np.ones(len(labels)) if weights is None else weights
        redrawn = _redrawn(labels, predicted, blocks, list(enough.values()), own)
        for measure, limit, value, values in zip(
            ("demographic_parity", "equalized_odds"),
            (limits.demographic_parity, limits.equalized_odds),
            _differences(labels, predicted, enough, own),
            redrawn,
            strict=True,
        ):
            low = max(0.0, 2 * value - float(np.quantile(values, 0.975)))
            figures |= {f"{measure}__{column}": value, f"{measure}_low__{column}": low}
            if not low <= limit:
                problems.append(
                    f"expected groups of {column} to differ by at most {limit:g} in {measure}, found {value:.3f} (at least {low:.3f} at 95 %)"
                )
    return FairnessFindings(f"fairness: {'; '.join(problems)}" if problems else "", figures)


def _is_enough(labels: NDArray[np.float64]) -> bool:
    positives = int(labels.sum())
    return len(labels) >= LEAST_ROWS and min(positives, len(labels) - positives) >= LEAST_EACH


def _differences(labels: NDArray[np.float64], predicted: NDArray[np.int32], groups: Groups, weights: NDArray[np.float64]) -> tuple[float, float]:
    """Return both measures of fairlearn on the rows of the groups."""
    # Here and not above: it draws in pandas and scikit-learn's metrics, which no stage needs that only names a gate.
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    group = np.full(len(labels), -1)
    for number, rows in enumerate(groups.values()):
        group[rows] = number
    judged = group >= 0
    rows_of = {"sensitive_features": group[judged], "sample_weight": weights[judged]}
    truth, answers = labels[judged], predicted[judged]
    parity = demographic_parity_difference(truth, answers, **rows_of)
    return float(parity), float(equalized_odds_difference(truth, answers, **rows_of))


def _redrawn(
    labels: NDArray[np.float64],
    predicted: NDArray[np.int32],
    blocks: NDArray[np.int64],
    groups: list[NDArray[np.bool_]],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both measures on each redraw of the blocks, shape (repetitions,): from counts by block, without a pass over the rows each time."""
    place, count = block_indices(blocks)
    draws = drawn_blocks(count, _REPETITIONS, 0)[1:]
    shares = []
    for rows in groups:
        counts = [
            draws @ np.bincount(place[rows], weights[rows] * part[rows], minlength=count)
            for part in (np.ones(len(labels)), predicted, labels, predicted * labels, predicted * (1 - labels))
        ]
        everybody, yes, positives, hits, false = counts
        with np.errstate(invalid="ignore", divide="ignore"):
            shares.append([yes / everybody, hits / positives, false / (everybody - positives)])
    shares_by_group = np.array(shares)  # (groups, 3, draws)
    spans = np.nanmax(shares_by_group, axis=0) - np.nanmin(shares_by_group, axis=0)
    return spans[0], np.maximum(spans[1], spans[2])
