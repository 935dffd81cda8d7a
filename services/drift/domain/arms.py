"""What became of the requests of both arms of a trial: their labels, by the draw that decided who had to answer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.sticky_arms import BUCKETS, bucket_of

NO_ARMS: Mapping[str, Any] = {
    "champion_arm_labels": 0, "challenger_arm_labels": 0, "champion_arm_label": None, "challenger_arm_label": None, "arm_difference": None,
    "arm_weights": (), "arm_sums": (),
}  # fmt: skip
"""Fields of a trial in which nobody but the champion answers."""


def arms_of(
    label: NDArray[np.float64], expected: NDArray[np.float64], weight: NDArray[np.float64], draw: NDArray[np.float64], share: float
) -> dict[str, Any]:
    """Return a trial's fields on its arms.

    A request belongs to an arm by its draw, whoever answered in the end: a challenger that has no score for the hard requests would else look the
    better for it. What the champion expects of a request is taken from its label in both arms alike. That changes the difference between the arms by
    nothing on average, and takes out of it what is known of the entities that each arm has got.

    Parameters
    ----------
    label, expected, weight, draw : shape (n,)
        Label, what the champion says of it, how many requests it stands for, and what the request drew.
    share
        Below which a draw is of the challenger's arm.
    """
    bucket = bucket_of(draw, share)
    weights = np.bincount(bucket, weight, 2 * BUCKETS)
    sums = np.bincount(bucket, weight * (label - expected), 2 * BUCKETS)
    fields: dict[str, Any] = {**NO_ARMS, "arm_weights": weights.tolist(), "arm_sums": sums.tolist()}
    arms = {"challenger": slice(0, BUCKETS), "champion": slice(BUCKETS, 2 * BUCKETS)}
    excess = []
    for name, buckets in arms.items():
        own = (draw < share) == (name == "challenger")
        total = weights[buckets].sum()
        fields[f"{name}_arm_labels"] = int((own & (weight > 0)).sum())
        if total > 0:
            fields[f"{name}_arm_label"] = float((weight[own] * label[own]).sum() / total)
            excess.append(float(sums[buckets].sum() / total))
    if len(excess) == len(arms):
        fields["arm_difference"] = excess[0] - excess[1]
    return fields
