"""Categories as label rates: what a model is given in service, and what it is given while it learns."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.models.signature import Column, within_range

_SMOOTHING = 50.0
_RARE_ROWS = 20
_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class Encoding:
    """Training rows as numbers.

    Attributes
    ----------
    columns
        How each feature becomes a number in service: a category by the label rate of all the rows.
    matrix : float32 array, shape (n, columns)
        The rows themselves, NaN where missing: a category by the label rate of the rows before it.
    """

    columns: tuple[Column, ...]
    matrix: NDArray[np.float32]


def encode(features: pa.RecordBatch, labels: NDArray[np.float64], request_ms: NDArray[np.int64]) -> Encoding:
    """Encode rows to learn from.

    A category becomes its label rate, drawn towards the overall rate when it is rare; categories of fewer than 20 rows are one, which also stands for
    those never seen. A row whose own label is in the rate that stands for it shows a model its answer, the more so the rarer the category: a noise
    column of 10,000 categories then outweighs every other. Rows to learn from are therefore encoded block by block in the order of their
    requests, each block by the rates of the blocks before it.

    Parameters
    ----------
    features : n rows
    labels, request_ms : shape (n,)

    References
    ----------
    Prokhorenkova et al.: CatBoost: unbiased boosting with categorical features. NeurIPS 2018 (ordered target statistics).
    """
    rate = float(labels.mean())
    blocks = np.empty(len(labels), np.int64)
    blocks[np.argsort(request_ms, kind="stable")] = np.arange(len(labels)) * _BLOCKS // max(1, len(labels))
    columns, matrix = [], np.empty((len(labels), features.num_columns), np.float32)
    for j, (name, values) in enumerate(zip(features.schema.names, features.columns, strict=True)):
        with np.errstate(over="ignore"):
            if pa.types.is_string(values.type):
                column, matrix[:, j] = _category(name, values, labels, blocks, rate)
            else:
                column, matrix[:, j] = Column(name=name, type="double"), values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        columns.append(column)
    return Encoding(tuple(columns), within_range(matrix))


def _category(name: str, values: pa.Array, labels: NDArray[np.float64], blocks: NDArray[np.int64], rate: float) -> tuple[Column, NDArray[np.float64]]:
    encoded = values.dictionary_encode()
    levels, known = encoded.dictionary.to_pylist(), encoded.indices.is_valid().to_numpy(zero_copy_only=False)
    place = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    common = np.bincount(place[known], minlength=len(levels)) >= _RARE_ROWS
    # Groups: one for all rare levels, then the common ones in the order of their names.
    names = sorted(level for level, often in zip(levels, common, strict=True) if often)
    group_of = {level: group for group, level in enumerate(names, start=1)}
    group = np.array([group_of.get(level, 0) for level in levels] or [0])[place]
    seen = np.bincount(group[known] * _BLOCKS + blocks[known], minlength=(len(names) + 1) * _BLOCKS)
    positive = np.bincount(group[known] * _BLOCKS + blocks[known], labels[known], minlength=(len(names) + 1) * _BLOCKS)
    counts, totals = (part.reshape(-1, _BLOCKS).cumsum(axis=1) for part in (seen.astype(np.float64), positive))
    rates = (totals + _SMOOTHING * rate) / (counts + _SMOOTHING)
    before = np.hstack([np.full((len(rates), 1), rate), rates[:, :-1]])
    codes = dict(zip(names, rates[1:, -1].tolist(), strict=True))
    column = Column(name=name, type="string", codes=codes, unknown=float(rates[0, -1]))
    return column, np.where(known, before[group, blocks], np.nan)
