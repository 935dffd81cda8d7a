"""Scores as topics and files hold them, as the arrays that kinds work on."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind


def served_scores(kind: Kind, score: pa.Array, scores: pa.Array | None) -> NDArray[np.float64]:
    """Return the scores of each row: shape (n,), of several classes (n, K); NaN where there is none.

    Parameters
    ----------
    score, scores
        The columns ``score`` and ``scores`` (map of class name to probability) of predictions or outcomes; records from before there were several
        classes have no `scores`.
    """
    if not kind.has_classes:
        return np.asarray(score.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    if scores is None or pa.types.is_null(scores.type):
        return np.full((len(score), len(kind.classes)), np.nan)
    return class_scores(scores, kind)


def class_scores(scores: pa.Array, kind: Kind) -> NDArray[np.float64]:
    """Return a map of class name to probability as a table, shape (n, K), in the order of the classes.

    NaN where one is missing; of classes that are learned 0, as far as the row has any: its version did not know the others.
    """
    own = pa.concat_arrays([scores.cast(pa.map_(pa.string(), pa.float64()))])
    filled = np.full((len(own), len(kind.classes)), np.nan)
    offsets = own.offsets.to_numpy()
    inside = slice(int(offsets[0]), int(offsets[-1]))
    places = pc.index_in(own.keys, pa.array(kind.classes, pa.string())).fill_null(-1).to_numpy(zero_copy_only=False)[inside]
    row, known = np.repeat(np.arange(len(own)), np.diff(offsets)), places >= 0
    if kind.is_learned:
        filled[row[known]] = 0.0
    filled[row[known], places[known]] = own.items.to_numpy(zero_copy_only=False)[inside][known]
    return filled


def classes_answered(scores: pa.Array) -> list[str]:
    """Return the classes of maps of class name to probability, each once, in the order in which they come first."""
    own = pa.concat_arrays([scores.cast(pa.map_(pa.string(), pa.float64()))])
    offsets = own.offsets
    names: list[str] = pc.unique(own.keys.slice(offsets[0].as_py(), offsets[-1].as_py() - offsets[0].as_py())).to_pylist()
    return names
