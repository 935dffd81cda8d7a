"""Labels of a window against plain dictionaries, whatever the batches, and what they take."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from tidemill.services.drift.domain.labelled_rows import LabelledRows

NOTHING = float("nan")


def drawn(seed: int, n: int, width: int) -> dict[str, Any]:
    """Labels of which some replace others, some stand for more requests than their own, and some have an interval."""
    rng = np.random.default_rng(seed)
    bounded = rng.random(n) < 0.3
    return {
        "requests": rng.integers(0, n // 2, n) * 7 + (1 << 44),
        "label": rng.integers(0, 3, n).astype(float),
        "score": rng.random((n, width)) if width else rng.random(n),
        "predicted": rng.integers(0, 3, n),
        "weight": np.where(rng.random(n) < 0.2, rng.uniform(1, 9, n), 1.0),
        "lower": np.where(bounded, -1.0 - rng.random(n), NOTHING),
        "upper": np.where(bounded, 1.0 + rng.random(n), NOTHING),
        "revision": np.zeros(n, np.int64),
    }


def plainly(given: dict[str, Any]) -> dict[str, Any]:
    """One label after the other."""
    rows: dict[int, dict[str, Any]] = {}
    for i, request in enumerate(given["requests"].tolist()):
        new = {"score": given["score"][i].tolist(), "predicted": given["predicted"][i], "weight": 1.0, "lower": NOTHING, "upper": NOTHING}
        row = rows.setdefault(request, new)
        row["label"] = given["label"][i]
        if given["weight"][i] != 1.0:
            row["weight"] = given["weight"][i]
        if np.isnan(row["lower"]) and not np.isnan(given["lower"][i]):
            row["lower"], row["upper"] = given["lower"][i], given["upper"][i]
    return {"requests": list(rows)} | {name: [row[name] for row in rows.values()] for name in given if name not in ("requests", "revision")}


@pytest.mark.parametrize("width", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_any_batching_and_any_restart_give_what_a_dictionary_gives(seed: int, width: int) -> None:
    given, rng = drawn(seed, 400, width), np.random.default_rng([seed, 1])
    rows, begin = LabelledRows(), 0
    while begin < 400:
        end = begin + int(rng.integers(0, 60))
        rows.absorb(**{name: values[begin:end] for name, values in given.items()})
        begin = end
        if rng.random() < 0.3:
            rows = LabelledRows.load(json.loads(json.dumps(rows.snapshot())))
    expected = plainly(given)
    assert rows.sample.requests.values.tolist() == expected.pop("requests")
    for name, values in expected.items():
        np.testing.assert_array_equal(rows.column(name), values, name)


def test_classes_that_are_learned_are_none_at_first() -> None:
    rows, given = LabelledRows(), drawn(0, 60, 3)
    rows.absorb(**drawn(0, 0, 0) | {"score": np.empty((0, 0))})
    assert not len(rows)
    rows.absorb(**given)
    assert rows.column("score").tolist() == plainly(given)["score"]


def test_classes_that_are_added_had_no_probability_before() -> None:
    rows = LabelledRows()
    rows.absorb(**drawn(0, 20, 2))
    count = len(rows)
    rows.widen(4)
    assert rows.column("score").shape == (count, 4) and not rows.column("score")[:, 2:].any()
    rows.absorb(**drawn(1, 60, 4))
    assert rows.column("score").shape == (len(rows), 4) and len(rows) > count


def test_a_label_takes_the_bytes_of_its_columns() -> None:
    """A dictionary of texts took some 500."""
    count, step = 100_000, 2_000
    nothing, one = np.full(step, NOTHING), np.ones(step)
    tracemalloc.start()
    try:
        before, rows = tracemalloc.get_traced_memory()[0], LabelledRows()
        for begin in range(0, count, step):
            rows.absorb(np.arange(begin, begin + step) << 3, one, one / 2, np.zeros(step, np.int64), one, nothing, nothing, np.zeros(step, np.int64))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(rows) == count and set(rows.columns) == {"label", "score", "predicted"}
    assert held < 64 * count
