"""Shifts are ranked by what the feature does to the answers: against variances by pandas, and through the fold."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tests.planted_faults import Table, said_of
from tidemill.services.drift.domain.findings import Finding
from tidemill.services.drift.domain.importance import Importance
from tidemill.services.drift.domain.shifts import Summary
from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch


def test_main_effects_are_the_variance_between_bins() -> None:
    generator, n = np.random.default_rng(0), 2_000
    strong, weak, idle = generator.normal(size=(3, n))
    strong[::10] = np.nan
    code = generator.choice(["a", "b", "c"], n)
    score = np.nan_to_num(np.tanh(strong)) + 0.3 * weak + 0.2 * (code == "b")
    batch = pa.RecordBatch.from_pydict(
        {"strong": pa.array(strong, from_pandas=True), "weak": pa.array(weak), "idle": pa.array(idle), "code": pa.array(code)}
    )
    reference: dict[str, Summary] = {"strong": Sketch.of(strong), "weak": Sketch.of(weak), "idle": Sketch.of(idle), "code": Tally.of(code.tolist())}
    names, keys = list(reference), [str(i) for i in range(n)]
    whole, parts = Importance(names), Importance(names)
    whole.requests(keys, batch, reference)
    whole.answered(keys, score.tolist(), [True] * n)
    for begin in range(0, n, 700):
        rows = slice(begin, begin + 700)
        parts.requests(keys[rows], batch.slice(begin, 700), reference)
        parts = Importance.load(names, json.loads(json.dumps(parts.snapshot())))
        parts.answered(keys[rows], score[rows].tolist(), [True] * len(keys[rows]))
    assert whole.snapshot() == parts.snapshot() and not whole.waiting and whole.left == 0
    table = pd.DataFrame({"score": score, "code": code} | {name: pd.qcut(batch.column(name).to_pandas(), 10).astype(str) for name in names[:3]})
    expected = {name: float(table.groupby(name)["score"].transform("mean").var() / score.var()) for name in names}
    shares = whole.shares()
    assert shares["strong"] == 1 and shares["idle"] < 0.01
    assert all(abs(shares[name] - expected[name] / expected["strong"]) < 0.03 for name in names)


def test_the_shift_of_what_the_model_lives_on_comes_first() -> None:
    def both(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
        rows.columns["amount"][after] = generator.gamma(6.0, 200.0, int(after.sum()))
        rows.columns["weight"][after] = 58 + 4 * generator.normal(0, 1, int(after.sum()))

    findings = [one for one in said_of(both, 0) if isinstance(one, Finding) and one.kind == "feature"]
    shares = {one.subject: one.evidence["importance"] for one in findings}
    assert shares["amount"] == 1 and shares["weight"] < 0.01
