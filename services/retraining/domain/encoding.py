"""Categories as label rates or means: what a model is given in service, and what it is given while it learns."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.signature import Column, within_range
from tidemill.shared.statistics.propensity import Weights, of_rows, weighted_mean

_SMOOTHING = 50.0
_RARE_ROWS = 20
_BLOCKS = 20
_MOST_TARGETS = 8


@dataclass(frozen=True, slots=True)
class Encoding:
    """Training rows as numbers.

    Attributes
    ----------
    columns
        How each feature becomes numbers in service: a category by the label rate of all the rows, of several classes by the rate of each.
    matrix : float32 array, shape (n, columns)
        The rows themselves, NaN where missing: a category by the label rate of the rows before it.
    """

    columns: tuple[Column, ...]
    matrix: NDArray[np.float32]


def encode(features: pa.RecordBatch, labels: NDArray[np.float64], request_ms: NDArray[np.int64], kind: Kind, weights: Weights = None) -> Encoding:
    """Encode rows to learn from.

    A category becomes its label rate, drawn towards the overall rate when it is rare; categories of fewer than 20 rows are one, which also stands for
    those never seen. A row whose own label is in the rate that stands for it shows a model its answer, the more so the rarer the category: a noise
    column of 10,000 categories then outweighs every other. Rows to learn from are therefore encoded block by block in the order of their
    requests, each block by the rates of the blocks before it.

    A category of a regression becomes its mean label. Of several classes it becomes as many columns: one number cannot say which of three classes a
    category makes likely. The most frequent class needs none (the others say its rate), and of more than nine the eight next ones have to do.

    Parameters
    ----------
    features : n rows
    labels, request_ms, weights : shape (n,)

    References
    ----------
    Prokhorenkova et al.: CatBoost: unbiased boosting with categorical features. NeurIPS 2018 (ordered target statistics).
    """
    targets = _targets(labels, kind)
    blocks = np.empty(len(labels), np.int64)
    blocks[np.argsort(request_ms, kind="stable")] = np.arange(len(labels)) * _BLOCKS // max(1, len(labels))
    own = None if weights is None else weights / weights.mean()
    columns: list[Column] = []
    width = sum(len(targets) if pa.types.is_string(values.type) else 1 for values in features.columns)
    matrix = np.empty((len(labels), width), np.float32)
    with np.errstate(over="ignore"):
        for name, values in zip(features.schema.names, features.columns, strict=True):
            if pa.types.is_string(values.type):
                for target in targets:
                    column, matrix[:, len(columns)] = _category(name, values, target, blocks, own)
                    columns.append(column)
            else:
                matrix[:, len(columns)] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
                columns.append(Column(name=name, type="double"))
    return Encoding(tuple(columns), within_range(matrix))


def _targets(labels: NDArray[np.float64], kind: Kind) -> list[NDArray[np.float64]]:
    """Return what categories are averaged by."""
    if not kind.classes:
        return [labels]
    counts = np.bincount(labels.astype(np.int64), minlength=kind.width)
    chosen = np.sort(np.argsort(-counts, kind="stable")[1 : 1 + _MOST_TARGETS])
    return [(labels == place).astype(np.float64) for place in chosen]


def _category(
    name: str, values: pa.Array, labels: NDArray[np.float64], blocks: NDArray[np.int64], weights: Weights
) -> tuple[Column, NDArray[np.float64]]:
    rate = weighted_mean(labels, weights)
    encoded = values.dictionary_encode()
    levels, known = encoded.dictionary.to_pylist(), encoded.indices.is_valid().to_numpy(zero_copy_only=False)
    place = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    common = np.bincount(place[known], minlength=len(levels)) >= _RARE_ROWS
    # Groups: one for all rare levels, then the common ones in the order of their names.
    names = sorted(level for level, often in zip(levels, common, strict=True) if often)
    group_of = {level: group for group, level in enumerate(names, start=1)}
    group = np.array([group_of.get(level, 0) for level in levels] or [0])[place]
    seen = np.bincount(group[known] * _BLOCKS + blocks[known], of_rows(weights, known), minlength=(len(names) + 1) * _BLOCKS)
    sums = labels if weights is None else weights * labels
    positive = np.bincount(group[known] * _BLOCKS + blocks[known], sums[known], minlength=(len(names) + 1) * _BLOCKS)
    counts, totals = (part.reshape(-1, _BLOCKS).cumsum(axis=1) for part in (seen.astype(np.float64), positive))
    rates = (totals + _SMOOTHING * rate) / (counts + _SMOOTHING)
    before = np.hstack([np.full((len(rates), 1), rate), rates[:, :-1]])
    codes = dict(zip(names, rates[1:, -1].tolist(), strict=True))
    column = Column(name=name, type="string", codes=codes, unknown=float(rates[0, -1]))
    return column, np.where(known, before[group, blocks], np.nan)
