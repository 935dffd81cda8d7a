"""Figures of a card, of every kind, against scikit-learn and plain loops."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, log_loss, mean_absolute_error, roc_auc_score

from tidemill.cards.answers import LabelledAnswers
from tidemill.cards.figures import by_value, by_week, fairness, part, reliability
from tidemill.shared.application.gate_policy import Fairness
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

DAY_MS, N = 86_400_000, 4_000


def answered(seed: int = 1) -> LabelledAnswers:
    random = np.random.default_rng(seed)
    scores = random.random(N)
    labels = (random.random(N) < scores).astype(np.float64)
    country = random.choice(["<b>ab</b>", "cd", ""], N, p=[0.7, 0.29, 0.01])
    times = np.sort(random.integers(19_700 * DAY_MS, 19_730 * DAY_MS, N))
    return LabelledAnswers(labels, scores, (scores > 0.5).astype(np.float64), times, pl.DataFrame({"country": country}), None)


def test_of_all_of_a_week_and_of_a_slice() -> None:
    rows, kind = answered(), Binary()
    whole = part(kind, rows, "all")
    assert whole.rows == N and whole.figures["auc"] == pytest.approx(roc_auc_score(rows.labels, rows.scores))
    assert whole.loss == pytest.approx(log_loss(rows.labels, rows.scores)) and whole.figures["f1"] == pytest.approx(
        f1_score(rows.labels, rows.predicted)
    )
    weeks = by_week(kind, rows)
    assert sum(one.rows for one in weeks) == N and [one.name for one in weeks] == sorted(one.name for one in weeks)
    assert weeks[0].name == "2023-12-07", "a week of epoch days, named by its first"
    slices = {one.name: one for one in by_value(kind, rows, ["country", "nothing"])}
    assert set(slices) == {"country = <b>ab</b>", "country = cd"}, "the third has fewer than fifty"
    mine = rows.columns["country"].to_numpy() == "cd"
    assert slices["country = cd"].figures["auc"] == pytest.approx(roc_auc_score(rows.labels[mine], rows.scores[mine]))


def test_honest_probabilities_lie_within_their_intervals_and_others_do_not() -> None:
    rows, kind = answered(), Binary()
    bins = reliability(kind, rows)
    assert len(bins) == 10 and sum(one.rows for one in bins) == N
    assert sum(one.low <= one.said <= one.high for one in bins) >= 9
    lied = LabelledAnswers(rows.labels, rows.scores**3, rows.predicted, rows.request_ms, rows.columns, None)
    assert sum(one.low <= one.said <= one.high for one in reliability(kind, lied)) <= 3


def test_groups_that_are_answered_differently_are_told() -> None:
    rows = answered()
    fair = fairness(rows, Fairness(columns=("country",), demographic_parity=0.1))
    assert fair.problem == "" and fair.figures["fairness_groups__country"] == 2
    harsh = np.where(rows.columns["country"].to_numpy() == "cd", 1.0, rows.predicted)
    unfair = fairness(LabelledAnswers(rows.labels, rows.scores, harsh, rows.request_ms, rows.columns, None), Fairness(columns=("country",)))
    assert "demographic_parity" in unfair.problem and unfair.figures["demographic_parity__country"] == pytest.approx(
        1 - rows.predicted[rows.columns["country"].to_numpy() == "<b>ab</b>"].mean()
    )


def test_labels_count_for_the_requests_they_stand_for() -> None:
    rows, kind = answered(), Binary()
    weights = np.where(np.arange(N) % 2, 3.0, 1.0)
    weighed = part(kind, LabelledAnswers(rows.labels, rows.scores, rows.predicted, rows.request_ms, rows.columns, weights), "all")
    assert weighed.loss == pytest.approx(log_loss(rows.labels, rows.scores, sample_weight=weights))


def test_several_classes_and_numbers() -> None:
    random = np.random.default_rng(2)
    several = Multiclass(("a", "b", "c"))
    scores = random.dirichlet([1, 1, 1], N)
    labels = np.array([random.choice(3, p=one) for one in scores], np.float64)
    times, nothing = np.arange(N, dtype=np.int64), pl.DataFrame()
    rows = LabelledAnswers(labels, scores, scores.argmax(axis=1).astype(np.float64), times, nothing, None)
    assert part(several, rows, "all").loss == pytest.approx(log_loss(labels, scores)) and len(reliability(several, rows)) == 10
    numbers = LabelledAnswers(labels + 0.5, labels, labels, times, nothing, None)
    assert part(Regression(), numbers, "all").figures["mean_absolute_error"] == pytest.approx(mean_absolute_error(labels + 0.5, labels))
    assert reliability(Regression(), numbers) == []
    empty = np.empty(0)
    assert part(Binary(), LabelledAnswers(empty, empty, empty, np.empty(0, np.int64), nothing, None), "all").rows == 0
