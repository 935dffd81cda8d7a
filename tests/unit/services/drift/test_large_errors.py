"""One error at the end of the floats is one bad loss: the scale is that of all the others."""

import numpy as np

from tidemill.services.drift.domain.promise import UsualError
from tidemill.shared.statistics.sketch import Sketch, binned


def test_one_huge_error_of_a_regression_leaves_the_usual_error_as_it_is() -> None:
    label = np.random.default_rng(1).normal(10, 1, 400)
    with_huge = np.insert(label, 100, [1.7e308, 1e200])
    plain, hit = UsualError(), UsualError()
    assert (plain.learn(label[:198], np.full(198, 10.0)), hit.learn(with_huge, np.full(402, 10.0))) == (198, 200)
    assert hit.total == plain.total
    kept = hit.hold(with_huge, np.full(402, 10.0), np.zeros(402, dtype=np.int64))
    assert np.isfinite(kept.columns()).all() and kept.excess.max() <= 1 and kept.excess[100] > 0.999
    assert np.median(kept.excess) < 0.5


def test_a_sketch_holds_every_finite_value_and_its_bins_count_them_all() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(10, 3, 5_000), [1.7e308, -1.7e308, 5e-324, -0.0, 1e200]])
    sketch = Sketch.of(values[:2_500]).merged(Sketch.of(values[2_500:]))
    assert (sketch.present, sketch.low, sketch.high) == (5_005, -1.7e308, 1.7e308)
    expected, seen = binned(sketch, Sketch.of(values))
    assert expected.sum() == seen.sum() == 5_005
    assert Sketch.load(sketch.snapshot()).snapshot() == sketch.snapshot()
    ordinary = Sketch.of(values[:5_000])
    assert len(binned(sketch, ordinary)[1]) > 3, "ordinary values still have bins of their own"
