"""What the champion would have been judged by, had it answered every request that it has a score for."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.services.drift.domain.rows import OutcomeRows


def champion_rows(rows: OutcomeRows) -> OutcomeRows:
    """Return the outcomes as if the champion had answered what the canary did, where it has a score: it is judged on all requests alike."""
    if rows.pairs is None:
        return rows
    turned = (rows.variant == "canary") & np.isfinite(rows.pairs.score)
    if not turned.any():
        return rows
    pairs = rows.pairs
    return replace(
        rows,
        version=np.where(turned, pairs.version, rows.version),
        variant=np.where(turned, "champion", rows.variant).astype(np.object_),
        score=np.where(turned, pairs.score, rows.score),
        predicted=np.where(turned, pairs.predicted, rows.predicted),
        scores=pc.if_else(pa.array(turned), pairs.scores, rows.scores),
        lower=np.where(turned, np.nan, rows.lower),
        upper=np.where(turned, np.nan, rows.upper),
    )
