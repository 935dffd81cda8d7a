"""Labels that wait for their horizon take the bytes of their columns, and those that have left give them back."""

import tracemalloc

import numpy as np

from tidemill.services.drift.domain.waiting_labels import Labels, WaitingLabels

STEP, STEPS, HORIZON_STEPS = 2_000, 60, 20


def labels(step: int) -> Labels:
    row = np.arange(STEP, dtype=np.int64)
    request_ms, zero = step * 1_000 + row // 2, np.zeros(STEP, np.int64)
    return Labels(row, request_ms, zero, step * STEP + row, np.ones(STEP), np.full(STEP, 0.5), zero, zero)


def test_what_waits_is_bounded_by_the_horizon_however_long_the_stream() -> None:
    """48 bytes a label; merging needs as much again for a moment, and a snapshot its text."""
    waiting, held, peaks = WaitingLabels(), [], []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for step in range(STEPS):
            came = labels(step)
            waiting.take(came, came.request_ms, HORIZON_STEPS * 1_000)
            del came
            held.append(tracemalloc.get_traced_memory()[0] - before)
            tracemalloc.reset_peak()
            waiting.snapshot()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    full = HORIZON_STEPS * STEP
    assert abs(len(waiting) - full) <= STEP
    assert max(held[HORIZON_STEPS:]) < 60 * full
    assert max(held[-5:]) < 1.05 * max(held[HORIZON_STEPS : HORIZON_STEPS + 5])
    assert max(peaks) < 180 * full
