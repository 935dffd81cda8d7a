"""What each kind says of labels, scores and answers, against scikit-learn, scipy and plain Python."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as oracle

from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kinds import kind_of
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

THREE = Multiclass(("a", "b", "c"))


@dataclass(frozen=True)
class Settings:
    kind: str
    classes: tuple[str, ...] = ()


def test_settings_name_a_kind() -> None:
    assert (kind_of(Settings("binary")), kind_of(Settings("regression"))) == (Binary(), Regression())
    assert kind_of(Settings("multiclass", ("a", "b", "c"))) == THREE
    assert (THREE.width, Binary().width, Regression().width) == (3, 1, 1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings("ranking"), "one of the kinds binary, multiclass, regression, found 'ranking'"),
        (Settings("multiclass"), "two or more different classes"),
        (Settings("multiclass", ("a",)), "two or more different classes"),
        (Settings("multiclass", ("a", "a")), "two or more different classes"),
        (Settings("binary", ("a", "b")), "no classes"),
    ],
)
def test_settings_that_name_none_are_refused(settings: Settings, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        kind_of(settings)


def test_labels() -> None:
    values = np.array([0.0, -0.0, 1.0, 2.0, 3.0, -1.0, 0.5, np.nan, np.inf, -np.inf, 1e300])
    with np.errstate(all="raise"):
        assert Binary().is_label(values).tolist() == [value in (0.0, 1.0) for value in values.tolist()]
        assert THREE.is_label(values).tolist() == [value in (0.0, 1.0, 2.0) for value in values.tolist()]
        assert Regression().is_label(values).tolist() == (np.abs(values) < 1e38).tolist()
    assert (Binary().expected, THREE.expected, Regression().expected[:28]) == ("0 or 1", "one of the classes a, b, c", "a finite number that 32 bits")


def table(generator: np.random.Generator, n: int, classes: int, digits: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Labels that are drawn from probabilities."""
    scores = special.softmax(np.round(generator.normal(size=(n, classes)), digits), axis=1)
    return np.array([generator.choice(classes, p=row) for row in scores], float), scores


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("digits", [0, 12])
def test_figures_of_classes_are_scikit_learns(seed: int, digits: int) -> None:
    labels, scores = table(np.random.default_rng(seed), 500, 3, digits)
    predicted = THREE.decide(scores, 0.5)
    assert predicted.tolist() == [row.tolist().index(max(row.tolist())) for row in scores]
    figures = THREE.figures(labels, scores, predicted)
    hot = labels[:, None] == np.arange(3)
    macro = {"average": "macro", "zero_division": 0}
    expected = {
        "auc": oracle.roc_auc_score(labels, scores, multi_class="ovr"),
        "average_precision": oracle.average_precision_score(hot, scores),
        "log_loss": oracle.log_loss(labels, scores),
        "brier": float(((scores - hot) ** 2).sum(axis=1).mean()),
        "accuracy": oracle.accuracy_score(labels, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, predicted),
        "kappa": oracle.cohen_kappa_score(labels, predicted),
        "precision": oracle.precision_score(labels, predicted, **macro),
        "recall": oracle.recall_score(labels, predicted, **macro),
        "f1": oracle.f1_score(labels, predicted, **macro),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert set(figures) == {*expected, "calibration_error"}
    assert THREE.losses(labels, scores).mean() == pytest.approx(expected["log_loss"])


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_yes_and_no_are_scikit_learns(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = np.round(generator.random(400), 2)
    labels = (generator.random(400) < scores).astype(float)
    predicted = Binary().decide(scores, 0.4)
    assert predicted.tolist() == [int(score >= 0.4) for score in scores.tolist()]
    expected = {
        "auc": oracle.roc_auc_score(labels, scores),
        "average_precision": oracle.average_precision_score(labels, scores),
        "log_loss": oracle.log_loss(labels, scores),
        "brier": oracle.brier_score_loss(labels, scores),
        "accuracy": oracle.accuracy_score(labels, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, predicted),
        "kappa": oracle.cohen_kappa_score(labels, predicted),
        "precision": oracle.precision_score(labels, predicted),
        "recall": oracle.recall_score(labels, predicted),
        "f1": oracle.f1_score(labels, predicted),
    }
    figures = Binary().figures(labels, scores, predicted)
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_figures_of_numbers_are_scikit_learns() -> None:
    generator = np.random.default_rng(5)
    labels = generator.normal(10, 3, 300)
    scores = labels + generator.normal(0, 1, 300)
    figures = Regression().figures(labels, scores, Regression().decide(scores, 0.5))
    expected = {
        "mean_absolute_error": oracle.mean_absolute_error(labels, scores),
        "root_mean_squared_error": oracle.root_mean_squared_error(labels, scores),
        "r2": oracle.r2_score(labels, scores),
    }
    assert figures == pytest.approx(expected, rel=1e-12)
    assert Regression().losses(labels, scores).mean() == pytest.approx(oracle.mean_squared_error(labels, scores))


def test_what_is_undefined_is_left_out() -> None:
    assert Binary().figures([], [], []) == THREE.figures([], np.empty((0, 3)), []) == Regression().figures([], [], []) == {}
    one = Binary().figures([1.0, 1.0], [0.3, 0.4], [0, 0])
    assert not {"auc", "precision"} & set(one) and one["recall"] == 0.0
    same = THREE.figures([1.0, 1.0], [[0.1, 0.8, 0.1]] * 2, [1, 1])
    assert not {"auc", "kappa"} & set(same) and same["accuracy"] == same["balanced_accuracy"] == 1.0
    assert "r2" not in Regression().figures([2.0, 2.0], [1.0, 2.0], [0, 0])


def test_rows_of_other_classes_than_todays_spoil_nothing() -> None:
    labels, scores = table(np.random.default_rng(2), 200, 3)
    predicted = THREE.decide(scores, 0.5)
    expected = THREE.figures(labels, scores, predicted)
    more = np.vstack([scores, [[0.5, 0.5, np.nan], [np.nan, np.nan, np.nan], [0.2, 0.3, 0.5]]])
    figures = THREE.figures(np.append(labels, [1.0, 0.0, 3.0]), more, np.append(predicted, [-1, 5, 2]))
    assert figures == expected


def test_a_certain_wrong_answer_has_a_finite_loss() -> None:
    assert THREE.losses([0.0], [[0.0, 1.0, 0.0]]).tolist() == [-np.log(np.finfo(float).eps)]


def test_too_few_rows_are_named() -> None:
    labels = [0.0] * 20 + [1.0] * 3
    assert Binary().lack(labels, 10) == "3 positives of 23 rows, 10 are needed"
    assert Binary().lack(labels, 3) == ""
    assert THREE.lack(labels, 10) == "3 b and 0 c of 23 rows, 10 are needed"
    assert Regression().lack(labels, 10) == "" and Regression().lack(labels, 24) == "23 rows, 24 are needed"


def test_scores_that_can_be_answered() -> None:
    scores = np.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.4], [np.nan, 0.5, 0.5], [1.5, -0.5, 0.0], [1.0, 0.0, 0.0], [1 / 3] * 3])
    assert THREE.is_score(scores).tolist() == [True, False, False, False, True, True]
    assert Regression().is_score(np.array([1.0, np.inf, np.nan, 1e39, -3.4e38])).tolist() == [True, False, False, False, True]
    assert Binary().is_score(np.array([0.0, 1.0, 1.0005, 5.0, -0.5, 1e308, np.inf, np.nan])).tolist() == [True] * 3 + [False] * 5


def test_rows_without_a_score_of_the_kind_count_in_no_figure_of_scores() -> None:
    labels, odd = np.array([0.0, 1.0, 1.0, 0.0, 1.0]), np.array([0.2, 0.9, 0.4, 1e308, -7.0])
    figures, known = (Binary().figures(labels[rows], odd[rows], (odd[rows] > 0.5).astype(int)) for rows in (slice(5), slice(3)))
    assert {name: figures[name] for name in ("auc", "log_loss", "brier")} == {name: known[name] for name in ("auc", "log_loss", "brier")}
    assert figures["accuracy"] == 0.4, "what was answered is right or wrong whatever its score"
    assert Regression().figures(labels, np.array([0.5, 1.0, 1.0, 1e308, np.nan]), labels)["mean_absolute_error"] == pytest.approx(0.5 / 3)


def test_fallbacks() -> None:
    assert THREE.default_scores("b").tolist() == [0.25, 0.5, 0.25]
    assert THREE.default_scores({"c": 0.2, "a": 0.5, "b": 0.3}).tolist() == [0.5, 0.3, 0.2]
    assert Multiclass(("1", "2", "7")).default_scores(7.0).tolist() == [0.25, 0.25, 0.5]
    assert [float(kind.default_scores(0.25)) for kind in (Binary(), Regression())] == [0.25, 0.25]


@pytest.mark.parametrize("default", ["d", 0.5, {"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5, "c": 0.5}, {"a": 1.5, "b": -0.5, "c": 0.0}])
def test_fallbacks_of_another_kind_are_refused(default: float | str | dict[str, float]) -> None:
    with pytest.raises(ValueError, match="kind: multiclass"):
        THREE.default_scores(default)


def test_numbers_of_another_kind_are_refused() -> None:
    for wrong in (1.5, "yes", True, {"a": 1.0}, float("nan")):
        with pytest.raises(ValueError, match="kind: binary"):
            Binary().default_scores(wrong)
    for wrong in ("a", True, float("inf")):
        with pytest.raises(ValueError, match="kind: regression"):
            Regression().default_scores(wrong)
