"""A family that nobody has, or that cannot be served, is refused by name, with what would do."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tidemill.services.retraining.domain.families.family import FamilyError, Sample
from tidemill.services.retraining.domain.families.own_estimator import OwnEstimator
from tidemill.services.retraining.domain.families.registry import family_of
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"expected one of the families logistic_regression, .*lightgbm.*, or module:factory"):
        Training.model_validate({"families": ["lightgmb"]})
    with pytest.raises(FamilyError, match=r"expected one of the families .*, found forest"):
        family_of("forest")


def boosting() -> Any:
    return HistGradientBoostingClassifier()


def undecided() -> Any:
    return RidgeClassifier()


def python_step() -> Any:
    return make_pipeline(FunctionTransformer(np.sin), LogisticRegression())


def nothing() -> Any:
    return None


def neighbours() -> Any:
    return make_pipeline(StandardScaler(), KNeighborsClassifier(3))


def line() -> Any:
    return LinearRegression()


number = 7


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("no_such_module:model", Binary(), r"module no_such_module cannot be imported .*application's folder or be installed"),
        (f"{__name__}:absent", Binary(), "expected a function absent without arguments"),
        (f"{__name__}:number", Binary(), "expected a function number without arguments .* found 7"),
        (f"{__name__}:nothing", Binary(), "a classifier with probabilities of scikit-learn, found NoneType"),
        (f"{__name__}:undecided", Binary(), "a classifier with probabilities of scikit-learn, found RidgeClassifier without predict_proba"),
        (f"{__name__}:line", Multiclass(("a", "b")), "found LinearRegression without predict_proba"),
        (f"{__name__}:boosting", Binary(), "HistGradientBoostingClassifier .*cannot become an ONNX graph .*name a family of ours"),
        (f"{__name__}:python_step", Binary(), "Pipeline .*cannot become an ONNX graph .*return one that skl2onnx converts"),
        (f"{__name__}:python_step", Regression(), "does not fit|expected .* a regressor|cannot become"),
    ],
)
def test_what_cannot_be_trained_or_served_is_refused_before_a_training(path: str, kind: Kind, words: str) -> None:
    with pytest.raises(FamilyError, match=words):
        OwnEstimator(path).check(kind)


def test_an_estimator_that_takes_no_weights_gets_rows_as_often_as_they_weigh() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(400, 2)).astype(np.float32)
    labels = (matrix[:, 0] > 0).astype(np.float64)
    both, answers = np.concatenate([matrix, matrix]), np.concatenate([labels, 1 - labels])
    family = OwnEstimator(f"{__name__}:neighbours")
    family.check(Binary())
    fitted = family.fit(Sample(both, answers, Binary(), np.repeat([1.0, 1e-9], 400)), {}, 0)
    assert ((fitted.predict(matrix) > 0.5) == (labels > 0.5)).mean() > 0.95
