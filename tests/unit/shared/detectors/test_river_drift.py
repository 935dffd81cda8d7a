"""Drift starts without what no detector uses, and what is put off is there when it is used."""

import subprocess
import sys

from scipy import stats

HEAVY = ("sklearn", "sqlalchemy", "scipy.stats._stats_py", "scipy.optimize", "joblib")
STARTED = f"""
import sys
import tidemill.services.drift.service
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
"""
USED = """
import numpy as np
from river import drift, stream
from scipy import stats
rng = np.random.default_rng(3)
detector = drift.KSWIN(seed=1)  # It tests windows by scipy.stats.ks_2samp.
changes = []
for row, value in enumerate(np.concatenate([rng.normal(0, 1, 400), rng.normal(4, 1, 400)])):
    detector.update(value)
    if detector.drift_detected:
        changes.append(row)
assert changes and 400 < changes[0] < 440, changes
assert [x for x, _ in stream.iter_array([[1.0], [2.0]])] == [{0: 1.0}, {0: 2.0}]
import scipy.stats
assert scipy.stats is stats
assert "sklearn" in sys.modules and hasattr(stream, "iter_sklearn_dataset")
print(repr(float(stats.norm.ppf(0.975))))
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_drift_loads_nothing_that_its_detectors_do_not_use_and_what_was_put_off_is_whole_when_it_is_used() -> None:
    assert run(STARTED + USED) == repr(float(stats.norm.ppf(0.975)))
