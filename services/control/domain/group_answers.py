"""Whether a challenger answers groups of people too differently, by what its trial has counted so far."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.application.gate_policy import Fairness
from tidemill.shared.statistics.blocks import drawn_blocks

LEAST_LABELS, LEAST_OF_EACH_CLASS = 200, 30
_LEAST_BLOCKS = 7
_REPETITIONS = 500
_SURE = 0.995
"""More than the gate's 0.975: a trial is looked at after every block."""


def unequal_answers(counts: Mapping[str, Sequence[Sequence[int]]], limits: Fairness, figures: dict[str, float]) -> str:
    """Hold differences between the groups of each sensitive column against the limits of the gate; a problem is what surely exceeds one.

    Groups with fewer than 200 labels, 30 of a class or seven blocks are not judged. The largest difference of a sample is larger than that of its
    population, so the bound is the reverse percentile one of a bootstrap over blocks. Groups are drawn one by one: what their days share widens
    the interval, so a challenger is rather kept than sent back.

    Parameters
    ----------
    counts
        By group (``column=value``) and block: labels, positives, answers with yes, and those of them whose label is yes.
    figures
        Receives the differences, and their lower bounds.

    References
    ----------
    fairlearn.metrics: demographic_parity_difference, equalized_odds_difference (worst case).
    """
    random = np.random.Generator(np.random.PCG64(0))
    problems = []
    for column in limits.columns:
        groups = [np.array(blocks, np.float64) for name, blocks in sorted(counts.items()) if name.startswith(f"{column}=")]
        rates = np.array([_rates(group, random) for group in groups if _is_enough(group)])
        figures[f"fairness_groups__{column}"] = float(len(rates))
        if len(rates) < 2:
            continue
        spans = np.nanmax(rates, axis=0) - np.nanmin(rates, axis=0)
        measured = (
            ("demographic_parity", limits.demographic_parity, spans[0]),
            ("equalized_odds", limits.equalized_odds, np.fmax(spans[1], spans[2])),
        )
        for measure, limit, values in measured:
            low = max(0.0, 2 * float(values[0]) - float(np.nanquantile(values[1:], _SURE)))
            figures |= {f"{measure}__{column}": float(values[0]), f"{measure}_low__{column}": low}
            if low > limit:
                found = f"found {values[0]:.3f} (surely {low:.3f} or more)"
                problems.append(f"expected groups of {column} to differ by at most {limit:g} in {measure}, {found}")
    return f"fairness: {'; '.join(problems)}" if problems else ""


def _is_enough(group: NDArray[np.float64]) -> bool:
    if len(group) < _LEAST_BLOCKS:
        return False
    labels, positives = group[:, 0].sum(), group[:, 1].sum()
    return bool(labels >= LEAST_LABELS and min(positives, labels - positives) >= LEAST_OF_EACH_CLASS)


def _rates(group: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Shares answered with yes of all, of positives and of negatives: on the blocks, then on each redraw; shape (3, 1 + repetitions)."""
    labels, positives, yes, hits = (drawn_blocks(len(group), _REPETITIONS, random) @ group).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([yes / labels, hits / positives, (yes - hits) / (labels - positives)])
