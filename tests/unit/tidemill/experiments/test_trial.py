"""Trials of every kind: what is judged, by whom, and against what."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import metrics
from sklearn.metrics import average_precision_score, precision_recall_curve

from tidemill.experiments.comparison import Trial, compare, trade_off
from tidemill.experiments.configuration import Configuration
from tidemill.experiments.precision_recall import curve
from tidemill.experiments.trial import FoldedRows, Rules, run_trial
from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.services.retraining.domain.examples import DAY_MS, Examples
from tidemill.services.retraining.domain.fitting import fit
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


def bench(kind: Kind, rows: Examples | None = None, rules: Rules = RULES) -> FoldedRows:
    return FoldedRows(rows or examples(kind), Folds.of(END_MS, DAYS * DAY_MS, DAY_MS, 7 * DAY_MS, 2, 0), kind, rules)


def configuration(kind: Kind, columns: tuple[str, ...] = ("x", "other", "place"), **parameters: Any) -> Configuration:
    settings = {"trees": 40, "learning_rate": 0.1, "leaves": 8, "rows_per_leaf": 20, "feature_share": 0.9, "ridge": 1.0} | parameters
    return Configuration("lightgbm", 0, "all" if len(columns) == 3 else "some", columns, settings)


def trial(number: int, one: Configuration, figures: dict[str, Any]) -> Trial:
    return Trial(number, one, "done", "", figures)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_trial_says_the_same_again_and_better_features_win(kind: Kind) -> None:
    place, good, poor = bench(kind), configuration(kind), configuration(kind, ("other",))
    figures, again, worse = (run_trial(place, one) for one in (good, good, poor))
    assert {**figures, "train_s": 0} == {**again, "train_s": 0}
    assert figures["judged"] == sum(len(place.validation(fold)) for fold in range(2)) == sum(rows for _, rows, *_ in figures["days"])
    assert figures["loss"] == pytest.approx(sum(loss for _, _, loss, _ in figures["days"]) / figures["judged"])
    table = compare(kind, [trial(1, poor, worse), trial(2, good, figures), Trial(3, poor, "failed", "why")], 0.005)
    assert table.best_loss is not None and table.best_loss.number == 2 and table.best_metric is not None and table.best_metric.number == 2
    assert [row.trial.number for row in table.rows] == [2, 1, 3] and table.rows[1].sure and not table.rows[0].sure
    assert table.rows[1].behind == pytest.approx(worse["loss"] - figures["loss"])
    assert table.fastest is not None and table.fastest.number == 2, "the other one is faster or not, but not as good"
    assert (table.best_trade_off is None) == (kind.name == "regression") == (not figures["curve"])


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
    chosen = trade_off(Trial(1, configuration(Binary()), "done", "", {"curve": points}))
    assert chosen is not None and best - 0.01 <= chosen[0] <= best + 1e-4
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


def weighted(kind: Kind) -> Examples:
    """Rows of which some stand for ten requests, as those of a control share do; more so where the answer would have been high."""
    rows = examples(kind)
    x = rows.features.column("x").to_numpy()
    return replace(rows, weights=np.where((x > 0.5) & (np.random.default_rng(4).random(len(rows)) < 0.5), 10.0, 1.0))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rows_that_stand_for_several_requests_count_so_often_in_every_figure(kind: Kind) -> None:
    rows, one = weighted(kind), replace(configuration(kind), family="ridge_regression" if kind.name == "regression" else "logistic_regression")
    one = replace(one, parameters={"penalty": 1.0} if kind.name == "regression" else {"strength": 1.0})
    place = bench(kind, rows)
    figures = run_trial(place, one)
    asked = [place.validation(fold) for fold in range(2)]
    answers = []
    for fold in range(2):
        data = place.encoded(fold, 0)
        answers.append(fit(data.matrix, data.labels, kind, {"family": one.family, **one.parameters}, 7, data.weights).predict(data.asked))
    truth, scores = np.concatenate([part.labels for part in asked]), np.concatenate(answers)
    weights = np.concatenate([part.weights for part in asked if part.weights is not None])
    assert len(weights) == len(truth) and set(weights) == {1.0, 10.0}
    losses = {
        "binary": lambda w: metrics.log_loss(truth, scores, sample_weight=w),
        "multiclass": lambda w: metrics.log_loss(truth, scores, sample_weight=w),
        "regression": lambda w: metrics.mean_squared_error(truth, scores, sample_weight=w),
    }
    assert figures["loss"] == pytest.approx(losses[kind.name](weights), rel=1e-6) != pytest.approx(losses[kind.name](None), rel=1e-3)
    begins = np.concatenate([part.request_ms for part in asked]) // DAY_MS
    by_day = pd.DataFrame({"day": begins, "weight": weights}).groupby("day").weight.agg(["count", "sum"]).reset_index()
    assert [[day, count, weight] for day, count, _, weight in figures["days"]] == by_day.to_numpy().tolist()
    if kind.name == "binary":
        assert figures["figures"]["auc"] == pytest.approx(metrics.roc_auc_score(truth, scores, sample_weight=weights))
        precision, recall, _ = precision_recall_curve(truth, scores, sample_weight=weights)
        points = np.array(figures["curve"])[:, :2]
        apart = np.abs(points[:, None] - np.stack([recall, precision], axis=1)).max(axis=2).min(axis=1)
        assert len(points) > 20 and apart.max() < 1e-5
    fold_loss = figures["fold_losses"][0]
    count = len(asked[0].labels)
    each = kind.losses(truth[:count], scores[:count])
    assert fold_loss == pytest.approx(np.average(each, weights=weights[:count]))


def test_trials_are_held_against_each_other_by_days_and_by_what_their_rows_stand_for() -> None:
    """Two days: on the one the second trial is better, on the other, whose rows stand for more, it is worse."""
    one = {"loss": 0.5, "figures": {}, "train_s": 1.0, "days": [[0, 10, 5.0, 10.0], [1, 10, 50.0, 100.0]]}
    two = {"loss": 0.6, "figures": {}, "train_s": 1.0, "days": [[0, 10, 4.0, 10.0], [1, 10, 62.0, 100.0]]}
    first, second = configuration(Binary()), configuration(Binary(), ("x",))
    rows = compare(Binary(), [trial(1, first, one), trial(2, second, two)], 0.005).rows
    assert rows[1].trial.number == 2 and rows[1].behind == pytest.approx((62.0 + 4.0 - 55.0) / 110.0)
