"""An estimator of the application's own, by import path."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.families.family import FamilyError, Fitted, Matrix, Sample, Scores
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.export import estimator_to_onnx

_PROBE_ROWS, PROBE_COLUMNS = 60, 3


@dataclass(frozen=True, slots=True)
class OwnEstimator:
    """Whatever a factory returns: an estimator or a pipeline of scikit-learn that skl2onnx can convert.

    The factory has no arguments and no hyperparameters are drawn. Every ``random_state`` that is left open becomes the seed, and every ``n_jobs``
    that is given 1: the same rows give the same model. A missing value reaches the estimator as the mean of its column. An estimator that takes no
    weights is given rows as often as they weigh.

    Parameters
    ----------
    path
        ``module:factory``; the application's folder is among the places where modules are looked for.
    """

    path: str

    def suggest(self, trial: Any) -> dict[str, Any]:  # optuna is untyped
        """Draw nothing."""
        return {}

    def fit(self, sample: Sample, parameters: Mapping[str, Any], seed: int) -> Fitted:
        """Fit a new estimator of the factory."""
        estimator, kind = self._made(sample.kind, seed), sample.kind
        known = ~np.isnan(sample.matrix)
        count = np.maximum(known.sum(axis=0), 1)
        means = (np.where(known, sample.matrix, 0.0).sum(axis=0, dtype=np.float64) / count).astype(np.float32)
        labels = sample.labels.astype(np.int64) if kind.name != "regression" else sample.labels
        rows, weights = np.where(known, sample.matrix, means), sample.weights
        try:
            if weights is None:
                estimator.fit(rows, labels)
            elif (name := _weight_argument(estimator)) is not None:
                estimator.fit(rows, labels, **{name: weights})
            else:
                repeated = _as_often(weights)
                estimator.fit(rows[repeated], labels[repeated])
        except (Exception, SystemExit) as error:  # what an estimator of others raises is its own
            raise FamilyError(f"the estimator of {self.path} does not fit {rows.shape[0]} rows of {rows.shape[1]} columns: {error}") from error
        answer = estimator.predict if kind.name == "regression" else estimator.predict_proba
        several = bool(kind.classes)

        def predict(rows: Matrix) -> Scores:
            scores = np.asarray(answer(np.where(np.isnan(rows), means, rows)), np.float64)
            return scores if several else scores.reshape(len(rows), -1)[:, -1]

        return Fitted(predict, lambda: self._exported(estimator, means, kind))

    def check(self, kind: Kind) -> bytes:
        """Fit and convert a few drawn rows, so that what cannot serve is found before anything is trained; returns the graph.

        Raises
        ------
        FamilyError
            There is no such factory, or what it returns cannot be trained or served.
        """
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(_PROBE_ROWS, PROBE_COLUMNS)).astype(np.float32)
        labels = np.arange(_PROBE_ROWS) % max(2, kind.width) if kind.name != "regression" else rows[:, 0]
        return self.fit(Sample(rows, labels.astype(np.float64), kind), {}, 0).export()

    def _made(self, kind: Kind, seed: int) -> Any:  # scikit-learn is untyped
        factory = self._factory()
        try:
            estimator = factory()
        except (Exception, SystemExit) as error:  # what a function of others raises is its own
            raise FamilyError(f"the family {self.path}: expected an estimator, its factory ended with {type(error).__name__}: {error}") from error
        wanted = ("fit", "get_params", "set_params", "predict" if kind.name == "regression" else "predict_proba")
        if lacking := [name for name in wanted if not hasattr(estimator, name)]:
            what = "a regressor" if kind.name == "regression" else "a classifier with probabilities"
            raise FamilyError(f"expected {self.path} to return {what} of scikit-learn, found {type(estimator).__name__} without {', '.join(lacking)}")
        settings = estimator.get_params(deep=True)
        fixed = {name: seed for name, value in settings.items() if name.split("__")[-1] == "random_state" and value is None}
        return estimator.set_params(**fixed, **{name: 1 for name, value in settings.items() if name.split("__")[-1] == "n_jobs" and value})

    def _factory(self) -> Callable[[], Any]:
        module, _, name = self.path.partition(":")
        try:
            factory = getattr(import_module(module), name, None)
        except (Exception, SystemExit) as error:  # what a module of others raises is its own
            raise FamilyError(
                f"the family {self.path}: module {module} cannot be imported ({error}); it must stand in the application's folder or be installed"
            ) from error
        if not callable(factory):
            raise FamilyError(f"the family {self.path}: expected a function {name} without arguments in {module}, found {factory!r}")
        return lambda: factory()

    def _exported(self, estimator: Any, means: NDArray[np.float32], kind: Kind) -> bytes:  # scikit-learn is untyped
        try:
            return estimator_to_onnx(estimator, means, probabilities=kind.name != "regression")
        except Exception as error:  # the converters raise whatever their libraries do
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            words = f"{type(estimator).__name__} of {self.path} cannot become an ONNX graph ({said})"
            raise FamilyError(f"{words}; return one that skl2onnx converts, or name a family of ours (hist_gradient_boosting, lightgbm)") from error


def _weight_argument(estimator: Any) -> str | None:  # scikit-learn is untyped
    """Return how a fit is told weights; None where it takes none."""
    last, prefix = (estimator.steps[-1][1], f"{estimator.steps[-1][0]}__") if hasattr(estimator, "steps") else (estimator, "")
    return f"{prefix}sample_weight" if "sample_weight" in inspect.signature(last.fit).parameters else None


def _as_often(weights: Scores) -> NDArray[np.int64]:
    """Return as many places as there are weights, each as often as it weighs, without a draw."""
    ends = np.cumsum(weights)
    places: NDArray[np.int64] = np.searchsorted(ends, (np.arange(len(weights)) + 0.5) * ends[-1] / len(weights)).astype(np.int64)
    return places
