"""Trials of every kind: what is judged, by whom, and against what."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from tidemill.experiments.comparison import Trial, compare, trade_off
from tidemill.experiments.configuration import Configuration
from tidemill.experiments.precision_recall import curve
from tidemill.experiments.trial import Bench, Rules, run_trial
from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.services.retraining.domain.examples import DAY_MS, Examples
from tidemill.services.retraining.domain.folds import Folds
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

DAYS, PER_DAY = 60, 60
END_MS = (DAYS - 1) * DAY_MS
KINDS: list[Kind] = [Binary(), Multiclass(("low", "middle", "high")), Regression()]
RULES = Rules(2_000, 10, "none", 7)


def examples(kind: Kind, noise: float = 1.0) -> Examples:
    random, n = np.random.default_rng(1), DAYS * PER_DAY
    asked = np.sort(random.integers(0, DAYS * DAY_MS, n))
    x, other, place = random.normal(size=n), random.normal(size=n), random.choice(["a", "b", "c"], n)
    value = x + (place == "a") + noise * random.normal(size=n)
    labels = {"binary": (value > 0.3) * 1.0, "multiclass": np.digitize(value, [0.0, 1.0]) * 1.0, "regression": value}[kind.name]
    features = pa.RecordBatch.from_pydict({"x": pa.array(x, pa.float32()), "other": pa.array(other, pa.float32()), "place": pa.array(place)})
    return Examples(features, asked, asked + random.integers(0, DAY_MS, n), labels)


def bench(kind: Kind, rows: Examples | None = None, rules: Rules = RULES) -> Bench:
    return Bench(rows or examples(kind), Folds.of(END_MS, DAYS * DAY_MS, DAY_MS, 7 * DAY_MS, 2, 0), kind, rules)


def configuration(kind: Kind, columns: tuple[str, ...] = ("x", "other", "place"), **parameters: Any) -> Configuration:
    settings = {"trees": 40, "learning_rate": 0.1, "leaves": 8, "rows_per_leaf": 20, "feature_share": 0.9, "ridge": 1.0} | parameters
    return Configuration("lightgbm", 0, "all" if len(columns) == 3 else "some", columns, settings)


def trial(number: int, one: Configuration, found: dict[str, Any]) -> Trial:
    return Trial(number, one, "done", "", found)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_trial_says_the_same_again_and_better_features_win(kind: Kind) -> None:
    place, good, poor = bench(kind), configuration(kind), configuration(kind, ("other",))
    found, again, worse = (run_trial(place, one) for one in (good, good, poor))
    assert {**found, "train_s": 0} == {**again, "train_s": 0}
    assert found["judged"] == sum(len(place.validation(fold)) for fold in range(2)) == sum(rows for _, rows, _ in found["days"])
    assert found["loss"] == pytest.approx(sum(loss for _, _, loss in found["days"]) / found["judged"])
    table = compare(kind, [trial(1, poor, worse), trial(2, good, found), Trial(3, poor, "failed", "why")], 0.005)
    assert table.best_loss is not None and table.best_loss.number == 2 and table.best_metric is not None and table.best_metric.number == 2
    assert [row.trial.number for row in table.rows] == [2, 1, 3] and table.rows[1].sure and not table.rows[0].sure
    assert table.rows[1].behind == pytest.approx(worse["loss"] - found["loss"])
    assert table.fastest is not None and table.fastest.number == 2, "the other one is faster or not, but not as good"
    assert (table.best_trade_off is None) == (kind.name == "regression") == (not found["curve"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_labels_that_were_not_known_at_a_folds_begin_teach_it_nothing(kind: Kind) -> None:
    """What is known only after the newest fold begins is replaced: the scores of its models must not move, their judgement does."""
    rows = examples(kind)
    newest = END_MS - 7 * DAY_MS
    late = (rows.label_ms >= newest) | (rows.request_ms >= newest - DAY_MS)
    turned = np.where(late, rows.labels[::-1] if kind.name == "regression" else rows.labels.max() - rows.labels, rows.labels)
    changed = Examples(rows.features, rows.request_ms, rows.label_ms, turned)
    before, after = (bench(kind, one).encoded(0, 0) for one in (rows, changed))
    assert np.array_equal(before.matrix, after.matrix, equal_nan=True) and np.array_equal(before.labels, after.labels)
    assert np.array_equal(before.asked, after.asked, equal_nan=True)
    assert (
        run_trial(bench(kind, changed), configuration(kind))["fold_losses"][0] > run_trial(bench(kind, rows), configuration(kind))["fold_losses"][0]
    )


def test_precision_and_recall_are_scikit_learns() -> None:
    random = np.random.default_rng(2)
    labels = (random.random(3_000) < 0.2).astype(np.float64)
    scores = np.round(np.clip(0.25 * labels + 0.4 * random.random(3_000), 0, 1), 3).astype(np.float64)
    points = curve(Binary(), labels, scores)
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    known = {(round(r, 5), round(p, 5)): t for p, r, t in zip(precision[:-1], recall[:-1], thresholds, strict=True)}
    assert len(points) > 20 and all(known[point[0], point[1]] == pytest.approx(point[2], abs=1e-4) for point in points)
    best = max(2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True) if p + r)
    found = trade_off(Trial(1, configuration(Binary()), "done", "", {"curve": points}))
    assert found is not None and best - 0.01 <= found[0] <= best + 1e-4
    several = Multiclass(("a", "b", "c"))
    answers = random.dirichlet([1, 1, 1], 500)
    truth = np.array([random.choice(3, p=one) for one in answers], np.float64)
    micro = curve(several, truth, answers)
    expected = average_precision_score((truth[:, None] == np.arange(3)).ravel(), answers.ravel())
    area = sum((after[0] - before[0]) * after[1] for before, after in zip([[0.0, 1.0, 1.0], *micro], micro, strict=False))
    assert area == pytest.approx(expected, abs=0.02) and curve(Regression(), truth, truth) == []


def test_a_class_that_is_too_rare_fails_the_trial_by_name() -> None:
    rules = Rules(2_000, 5_000, "none", 7)
    with pytest.raises(TooFewRowsError, match="expected 5000 rows of each class in all history before fold 1"):
        run_trial(bench(Binary(), rules=rules), configuration(Binary()))
