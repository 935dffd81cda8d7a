"""Whether a candidate does harm to a part of the requests that the whole does not show."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import Examples
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.eprocess import Evidence, below, block_means, discoveries
from tidemill.shared.statistics.propensity import Weights, of_rows, weighted_mean

LEAST_ROWS, LEAST_EACH = 200, 30
_SHOWN = 12
Groups = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class SliceFindings:
    """What was found by slice.

    Attributes
    ----------
    harmed
        Names of slices in which the candidate is worse by more than the margin; of them at most a share of the level may be wrong (e-BH).
    judged
        Slices with enough rows.
    worst
        The largest mean difference among them; NaN without any.
    pooled_rows
        Rows of slices that are too small to be judged.
    text
        The worst of the judged ones and all that are pooled, as JSON: rows, difference, logarithm of the e-value.
    """

    harmed: tuple[str, ...]
    judged: int
    worst: float
    pooled_rows: int
    text: str


def groups_of(rows: Examples, columns: tuple[str, ...]) -> Groups:
    """Return the rows of each value of each column, by ``column=value``; columns that the model does not read are not there to be judged."""
    groups: dict[str, NDArray[np.bool_]] = {}
    for column in columns:
        place = rows.features.schema.get_field_index(column)
        if place < 0:
            continue
        encoded = rows.features.column(place).cast(pa.string()).fill_null("").dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        groups |= {f"{column}={value}": codes == code for code, value in enumerate(encoded.dictionary.to_pylist())}
    return groups


def judge_slices(
    kind: Kind, labels: NDArray[np.float64], mine: NDArray[np.float64], theirs: NDArray[np.float64], blocks: NDArray[np.int64],
    groups: Groups, margin: float, level: float, weights: Weights = None,
) -> SliceFindings:  # fmt: skip
    """Look for harm in every slice with 200 rows and 30 of each class; smaller ones are pooled and not judged.

    The null hypothesis of a slice is that the candidate is worse there by no more than the margin. A test of its own at 5 % for each of 19 slices
    would refuse a good candidate in 62 % of cases; e-BH bounds the share of false findings, however the slices depend.

    Parameters
    ----------
    mine, theirs : shape (n,)
        Losses of candidate and champion.
    margin
        For regression a share of the champion's mean loss in the slice.
    """
    by_slice: dict[str, tuple[int, float, Evidence]] = {}
    pooled: dict[str, int] = {}
    for name, rows in groups.items():
        count = int(rows.sum())
        if count < LEAST_ROWS or kind.lack(labels[rows], LEAST_EACH):
            pooled[name] = count
            continue
        own = of_rows(weights, rows)
        allowed = margin if kind.name != "regression" else margin * weighted_mean(theirs[rows], own)
        difference = mine[rows] - theirs[rows]
        by_slice[name] = count, weighted_mean(difference, own), below(-block_means(difference, blocks[rows], own), -allowed)
    names = list(by_slice)
    harmed = tuple(name for name, bad in zip(names, discoveries([by_slice[name][2].log_e for name in names], level), strict=True) if bad)
    worst_first = sorted(names, key=lambda name: -by_slice[name][1])[:_SHOWN]
    shown = {name: [by_slice[name][0], round(by_slice[name][1], 5), round(max(-99.0, by_slice[name][2].log_e), 2)] for name in worst_first}
    few = {"slices": len(pooled), "rows": sum(pooled.values())}
    text = json.dumps({"judged": shown, "not judged": few}, separators=(",", ":"))
    return SliceFindings(harmed, len(by_slice), max((one[1] for one in by_slice.values()), default=float("nan")), few["rows"], text)
