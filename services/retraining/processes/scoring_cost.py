"""How long scoring takes, measured: the only place of a training that reads a clock for its verdict."""

import time
from collections.abc import Callable

import pyarrow as pa

from tidemill.services.retraining.domain.latency import Cost
from tidemill.services.retraining.domain.refit_checks import AnsweringModel

_ROWS, _REPEATS = 1_024, 9


def measure(
    candidate: AnsweringModel, champion: AnsweringModel | None, features: pa.RecordBatch, clock: Callable[[], float] = time.perf_counter
) -> Cost | None:
    """Measure both on the same rows in turns, and take the best of nine each: whatever else the machine does makes a turn longer, never shorter.

    Parameters
    ----------
    features
        Rows that were served; the last thousand are scored. None of them gives None.
    clock
        Seconds.
    """
    rows = features.slice(max(0, features.num_rows - _ROWS))
    if not rows.num_rows:
        return None
    scorers = [candidate] if champion is None else [candidate, champion]
    best = [float("inf")] * len(scorers)
    for _ in range(_REPEATS):
        for place, scorer in enumerate(scorers):
            begun = clock()
            scorer.score(rows)
            best[place] = min(best[place], clock() - begun)
    costs_us = [seconds * 1e6 / rows.num_rows for seconds in best]
    return Cost(costs_us[0], costs_us[1] if champion is not None else None)
