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
    if not kind.classes:
        return np.asarray(score.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    found = np.full((len(score), len(kind.classes)), np.nan)
    if scores is None or pa.types.is_null(scores.type):
        return found
    own = pa.concat_arrays([scores.cast(pa.map_(pa.string(), pa.float64()))])
    places = pc.index_in(own.keys, pa.array(kind.classes)).fill_null(-1).to_numpy(zero_copy_only=False)
    values = own.items.to_numpy(zero_copy_only=False)
    offsets = own.offsets.to_numpy()
    row = np.repeat(np.arange(len(own)), np.diff(offsets))
    inside = slice(int(offsets[0]), int(offsets[-1]))
    known = places[inside] >= 0
    found[row[known], places[inside][known]] = values[inside][known]
    return found
