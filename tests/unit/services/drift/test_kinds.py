"""Health and bounds of models that answer with one of three classes, or with a number, against scikit-learn on the rows as served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle

from tests.unit.services.drift.stream import APP, DAY, START, Shop, season, shop
from tests.unit.services.drift.test_task import Pipeline, decoded
from tidemill.shared.application.errors import ApplicationError

CLASSES = ("small", "large", "other")
THREE = APP.replace("ask: orders", "ask: orders\n    kind: multiclass\n    classes: [small, large, other]").replace(
    'value: "bad"', 'value: "bad", values: {"0": small, "1": large, "2": other}'
).replace("fallback: {default: 0.3}", "fallback: {default: other}")  # fmt: skip
NUMBER = APP.replace("ask: orders", "ask: orders\n    kind: regression").replace("default: 0.3", "default: 10")


def bounded(application: str, policy: str) -> str:
    return application.replace("{min_auc: 0.75}", policy)


def of_classes(rows: Shop) -> Shop:
    """Probabilities that are right until day 8, and then say nothing; some outcomes are of a class that does not exist."""
    generator = np.random.default_rng(5)
    asked: dict[int, dict[str, Any]] = {}
    for row in rows.predictions:
        scores = generator.dirichlet(np.ones(3))
        best = int(scores.argmax())
        row |= {"scores": dict(zip(CLASSES, scores.tolist(), strict=True)), "score": float(scores.max()), "predicted": best}
        asked[row["journal_offset"]] = row
    for row in rows.outcomes:
        answer = asked[row["request_journal_offset"]]
        row |= {name: answer[name] for name in ("scores", "score", "predicted")}
        late = answer["journal_time"] >= START + 8 * DAY
        row["label"] = float(generator.choice(3, p=None if late else list(answer["scores"].values())))
    rows.outcomes[100]["label"] = 3.0
    return rows


def of_numbers(rows: Shop) -> Shop:
    """Errors with a deviation of 1, from day 8 of 4; every seventh answer has no interval, and one label is at the end of the floats."""
    generator = np.random.default_rng(6)
    asked: dict[int, dict[str, Any]] = {}
    for number, row in enumerate(rows.predictions):
        score = float(generator.normal(10, 3))
        ends = {"lower": score - 1.6, "upper": score + 1.6} if number % 7 else {"lower": None, "upper": None}
        row |= {"score": score, "predicted": 0, **ends}
        asked[row["journal_offset"]] = row
    for row in rows.outcomes:
        answer = asked[row["request_journal_offset"]]
        row |= {name: answer[name] for name in ("score", "predicted", "lower", "upper")}
        row["label"] = answer["score"] + float(generator.normal(0, 4 if answer["journal_time"] >= START + 8 * DAY else 1))
    rows.outcomes[-1]["label"] = 1.7e308
    return rows


def windows(pipeline: Pipeline, health: list[dict[str, Any]]) -> list[tuple[dict[str, float], pd.DataFrame, pd.DataFrame]]:
    """Metrics of each window beside its outcomes and its predictions."""
    outcomes, predictions = pd.DataFrame(pipeline.rows.outcomes), pd.DataFrame(pipeline.rows.predictions)
    return [
        (one["metrics"], *(rows[rows.journal_time.between(one["window_start"], one["window_end"] - 1)] for rows in (outcomes, predictions)))
        for one in health
    ]


def test_three_classes(tmp_path: Path) -> None:
    pipeline = Pipeline(shop(tmp_path, bounded(THREE, "{floors: {auc: 0.6, accuracy: 0.4}}")), of_classes(season(per_day=420)))
    said = pipeline.run(0)
    assert pipeline.run(0, restarts=(4, 11, 19)) == said
    assert sorted(pipeline.run(3, steps=60)) == sorted(said)
    events, health = decoded(pipeline, said)
    for reported, mine, asked in windows(pipeline, health):
        mine = mine[mine.label < 3]
        scores = np.array([list(row.values()) for row in mine.scores])
        assert (reported["labels"], reported["predictions"]) == (len(mine), len(asked))
        assert reported["auc"] == pytest.approx(oracle.roc_auc_score(mine.label, scores, multi_class="ovr"))
        assert reported["log_loss"] == pytest.approx(oracle.log_loss(mine.label, scores))
        assert reported["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(mine.label, mine.predicted))
        assert reported["f1"] == pytest.approx(oracle.f1_score(mine.label, mine.predicted, average="macro"))
        assert reported["kappa"] == pytest.approx(oracle.cohen_kappa_score(mine.label, mine.predicted))
        assert reported["label_share__other"] == pytest.approx((mine.label == 2).mean())
        assert not {"positive_rate", "coverage", "mean_absolute_error"} & set(reported)
        if len(asked):
            assert reported["predicted_share__large"] == pytest.approx((asked.predicted == 1).mean())
            assert reported["score_mean__small"] == pytest.approx(np.mean([row["small"] for row in asked.scores]))
    broken = {event["subject"]: event for event in events if event["kind"] == "quality"}
    assert set(broken) == {"auc", "accuracy"} and min(event["journal_time"] for event in broken.values()) >= START + 9 * DAY
    assert broken["auc"]["statistic"] < broken["auc"]["threshold"] == 0.6
    assert "AUC" in broken["auc"]["detail"] and "below 0.6 over the last 2000 labels" in broken["auc"]["detail"]


def test_answers_with_a_class_that_is_declared_no_more_end_nothing(tmp_path: Path) -> None:
    """Its number lies behind the last of the others, and its share of the probability may have been nothing."""
    rows = of_classes(season(days=4, per_day=60, promoted=1))
    for row in rows.outcomes[80:90]:
        row |= {"predicted": 3, "delay_ms": 2**62}
    pipeline = Pipeline(shop(tmp_path, bounded(THREE, "{floors: {auc: 0.6}}")), rows)
    _, health = decoded(pipeline, pipeline.run(0))
    assert sum(one["metrics"]["labels"] for one in health) >= len(rows.outcomes) - 60


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_scores_that_no_model_of_the_kind_gives_end_nothing_and_stay_out_of_the_figures(tmp_path: Path, kind: str) -> None:
    """As a version before scoring refused them left them on its topics."""
    odd = [1e308, -1e308, 5.0, float("nan"), float("-inf"), 3.4e38, 5e-324]
    cases: dict[str, tuple[str, Callable[[Shop], Shop]]] = {
        "binary": (APP, lambda rows: rows),
        "multiclass": (bounded(THREE, "{}"), of_classes),
        "regression": (bounded(NUMBER, "{}"), of_numbers),
    }
    application, made = cases[kind]
    rows = made(season(days=3, per_day=40, promoted=1))
    for number, row in enumerate([*rows.predictions[45::7], *rows.outcomes[45::7]]):
        row |= {"score": odd[number % 7], "lower": odd[number % 5], "upper": odd[number % 6], "expected_error": odd[number % 7]}
        if kind == "multiclass":
            row["scores"] = {"small": odd[number % 7], "other": odd[number % 5]}
    pipeline = Pipeline(shop(tmp_path, application), rows)
    said = pipeline.run(0)
    assert pipeline.run(0, restarts=(3, 7)) == said
    _, health = decoded(pipeline, said)
    assert sum(one["metrics"]["predictions"] for one in health) == len(rows.predictions)
    if kind != "regression":
        means = [value for one in health for name, value in one["metrics"].items() if name.startswith(("score_mean", "brier", "estimated"))]
        assert means and all(-0.01 <= value <= 2 for value in means)


def test_numbers(tmp_path: Path) -> None:
    policy = "{floors: {coverage: 0.8}, ceilings: {mean_absolute_error: 1.2}}"
    pipeline = Pipeline(shop(tmp_path, bounded(NUMBER, policy)), of_numbers(season(per_day=420)))
    said = pipeline.run(0)
    assert pipeline.run(0, restarts=(4, 11, 19)) == said
    assert sorted(pipeline.run(3, steps=60)) == sorted(said)
    events, health = decoded(pipeline, said)
    for reported, mine, _ in windows(pipeline, health):
        mine = mine[mine.label < 1e38]
        known = mine.dropna(subset=["lower"])
        assert reported["coverage"] == pytest.approx(float(((known.lower <= known.label) & (known.label <= known.upper)).mean()))
        assert reported["mean_absolute_error"] == pytest.approx(float((mine.label - mine.score).abs().mean()))
        assert reported["interval_width"] == pytest.approx(3.2)
        assert reported["root_mean_squared_error"] == pytest.approx(oracle.root_mean_squared_error(mine.label, mine.score))
        assert reported["r2"] == pytest.approx(oracle.r2_score(mine.label, mine.score))
        assert not {"auc", "accuracy", "predicted_positive_rate"} & set(reported)
    broken = {event["subject"] for event in events if event["kind"] == "quality"}
    assert broken == {"coverage", "mean_absolute_error"}


@pytest.mark.parametrize(
    ("application", "policy", "expected"),
    [
        (APP, "{floors: {accurracy: 0.7}}", "metrics of which more is better (kind: binary): auc, average_precision"),
        (APP, "{floors: {log_loss: 0.7}}", "metrics of which more is better"),
        (APP, "{ceilings: {auc: 0.7}}", "metrics of which less is better (kind: binary): log_loss, brier"),
        (APP, "{floors: {auc: .nan}}", "a finite bound"),
        (NUMBER, "{min_auc: 0.7}", "(kind: regression): r2, coverage"),
        (THREE, "{floors: {coverage: 0.8}}", "(kind: multiclass): auc"),
    ],
)
def test_a_bound_that_does_not_fit_the_kind_is_refused(tmp_path: Path, application: str, policy: str, expected: str) -> None:
    with pytest.raises(ApplicationError) as refused:
        shop(tmp_path, bounded(application, policy))
    assert expected in str(refused.value) and "app.yaml:" in str(refused.value)


def test_min_auc_is_a_floor(tmp_path: Path) -> None:
    one, other = (shop(tmp_path, bounded(APP, policy)).models["sent_back"].settings.drift for policy in ("{min_auc: 0.7}", "{floors: {auc: 0.7}}"))
    assert one.all_floors == other.all_floors == {"auc": 0.7}
