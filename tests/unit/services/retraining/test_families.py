"""What every model family does, whatever its library: the same bytes again, served as it was trained, missing values, weights, its own draws."""

from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.long_forms import shortened
from tidemill.services.retraining.domain.families.family import FamilyError
from tidemill.services.retraining.domain.families.registry import family_of, suggest
from tidemill.services.retraining.domain.fitting import Fit, fit
from tidemill.shared.application.families import FAMILIES, supports
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column, Signature

TOLERANCE = 1e-6
WIDTH = 6
KINDS: tuple[Kind, ...] = (Binary(), Multiclass(("low", "middle", "high")), Multiclass(("no", "yes")), Regression())
Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]


def steps() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression())


def numbers() -> Any:
    return make_pipeline(StandardScaler(), Ridge())


def forest() -> Any:
    return RandomForestClassifier(30, min_samples_leaf=5)


def number_forest() -> Any:
    return RandomForestRegressor(30, min_samples_leaf=5)


OWN = {
    f"{__name__}:{name}": kinds for name, kinds in {"steps": KINDS[:3], "forest": KINDS[:3], "numbers": KINDS[3:], "number_forest": KINDS[3:]}.items()
}
CASES = [(family, kind) for family in FAMILIES for kind in KINDS if supports(family, kind.name)]
CASES += [(family, kind) for family, kinds in OWN.items() for kind in kinds]
# Two classes by name are the last, and left to the long form: what is said of three holds for them.
CASES.sort(key=lambda case: case[1] == KINDS[2])
SHORT = sum(kind != KINDS[2] for _, kind in CASES)

pytestmark = pytest.mark.parametrize(
    ("family", "kind"), shortened(CASES, SHORT), ids=lambda value: value if isinstance(value, str) else f"{value.name}{value.width}"
)


def world(kind: Kind, seed: int = 0, n: int = 1_200) -> tuple[Matrix, Scores]:
    """Columns that tell something, one with missing values that tell something too, one constant, one that is never known."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, WIDTH)).astype(np.float32)
    missing = rng.random(n) < 0.2
    known = 1.5 * matrix[:, 0] + matrix[:, 1] - 0.8 * missing + rng.logistic(size=n) * 0.7
    labels = 1e6 + 300 * known if not kind.classes and kind.name == "regression" else np.digitize(known, np.linspace(-1, 1, max(2, kind.width) - 1))
    matrix[missing, 2], matrix[:, 4], matrix[:, 5] = np.nan, 3.0, np.nan
    matrix[rng.random(n) < 0.05, 0] = np.nan
    return matrix, labels.astype(np.float64)


def drawn(family: str, seed: int = 0) -> dict[str, Any]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    parameters = suggest(study.ask({}), (family,), (0,))
    return {**parameters, "trees": 30, "learning_rate": 0.2, "rows_per_leaf": 10} if "trees" in parameters else parameters


def tolerance_of(kind: Kind) -> float:
    """Numbers have a unit: 3e-6 of their spread, which is some 700 here; sums of 32 bits that are above 1 are rounded more coarsely."""
    return 3 * TOLERANCE * 700 if kind.name == "regression" else TOLERANCE


def served(family: str, kind: Kind, fitted: Fit) -> OnnxScorer:
    fresh, _ = world(kind, 1)
    columns = tuple(Column(name=f"x{i}", type="double") for i in range(WIDTH))
    rows = tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in fresh[:16])
    signature = Signature(
        model="m", version="v", family=family, columns=columns, kind=kind.name, classes=kind.classes, threshold=0.5, parity_rows=rows,
        parity_scores=fitted.predict(fresh[:16]).tolist(), parity_tolerance=tolerance_of(kind), calibration=fitted.calibration,
    )  # fmt: skip
    return OnnxScorer(Artifact(Signature.model_validate_json(signature.to_json()), fitted.export()))


def learned(family: str, kind: Kind, seed: int = 0, weights: Scores | None = None) -> Fit:
    return fit(*world(kind), kind, drawn(family, seed), 7, weights)


def loss(kind: Kind, labels: Scores, scores: Scores) -> float:
    """Loss beside that of who knows nothing but the labels' shares, or their mean."""
    ignorant: Scores = np.full(len(labels), labels.mean())
    if kind.classes:
        ignorant = np.tile(np.bincount(labels.astype(np.int64), minlength=kind.width) / len(labels), (len(labels), 1))
    return float(kind.losses(labels, scores).mean() / kind.losses(labels, ignorant).mean())


def test_it_is_learned_from_and_served_as_the_library_scores(family: str, kind: Kind) -> None:
    fresh, labels = world(kind, 1)
    for seed in range(1 if "trees" in drawn(family) else 2):
        fitted = learned(family, kind, seed)
        wanted = fitted.predict(fresh)
        assert wanted.shape == ((len(fresh), kind.width) if kind.classes else (len(fresh),)) and kind.is_score(wanted).all()
        assert loss(kind, labels, wanted) < 0.85, seed
        assert np.abs(served(family, kind, fitted).score_matrix(fresh) - wanted).max() <= tolerance_of(kind)


def test_the_same_arguments_give_the_same_bytes(family: str, kind: Kind) -> None:
    first, again = (learned(family, kind) for _ in range(2))
    assert first.export() == again.export() and first.calibration == again.calibration
    fresh, _ = world(kind, 1)
    assert first.predict(fresh).tobytes() == again.predict(fresh).tobytes()


def test_missing_values_are_scored_where_the_library_scores_them(family: str, kind: Kind) -> None:
    """Also in columns that were always known, and of rows of which nothing is known."""
    rng = np.random.default_rng(2)
    fresh, _ = world(kind, 1)
    rows = np.where(rng.random(fresh.shape) < 0.5, np.nan, fresh).astype(np.float32)
    rows[0] = np.nan
    fitted = learned(family, kind)
    scores = served(family, kind, fitted).score_matrix(rows)
    assert np.isfinite(scores).all() and np.abs(scores - fitted.predict(rows)).max() <= tolerance_of(kind)


def test_one_row_scores_what_it_scores_among_others(family: str, kind: Kind) -> None:
    fresh, _ = world(kind, 1)
    scorer = served(family, kind, learned(family, kind))
    together = scorer.score_matrix(fresh[:70])
    assert together.tobytes() == np.concatenate([scorer.score_matrix(fresh[i : i + 1]) for i in range(70)]).tobytes()


def test_a_row_that_weighs_nothing_teaches_nothing(family: str, kind: Kind) -> None:
    """Half of the rows have turned labels: without weight they change nothing that matters, with it they do."""
    matrix, labels = world(kind)
    fresh, truth = world(kind, 1)
    turned = 2e6 - labels if kind.name == "regression" else labels.max() - labels
    both, answers = np.concatenate([matrix, matrix]), np.concatenate([labels, turned])
    weights = np.repeat([1.0, 1e-9], len(labels))
    losses = {
        how: loss(kind, truth, fit(both, answers, kind, drawn(family), 7, given).predict(fresh)) for how, given in (("not", None), ("so", weights))
    }
    assert losses["so"] < 0.9 < 0.95 < losses["not"], losses


def test_equal_weights_of_the_classes_leave_the_probabilities_what_they_are(family: str, kind: Kind) -> None:
    """A number has no classes: nothing changes."""
    matrix, labels = world(kind, n=3_000)
    kept = (labels > 0) | (np.arange(len(labels)) % 10 == 0)
    fitted = fit(matrix[kept], labels[kept], kind, drawn(family), 7, class_weight="balanced")
    if kind.name == "regression":
        assert fitted.export() == fit(matrix[kept], labels[kept], kind, drawn(family), 7).export()
        return
    scores = fitted.predict(matrix[kept]).reshape(int(kept.sum()), -1)
    shares = np.bincount(labels[kept].astype(np.int64)) / kept.sum()
    assert np.abs(scores.mean(axis=0) - shares[-scores.shape[1] :]).max() < 0.03
    assert np.abs(served(family, kind, fitted).score_matrix(matrix) - fitted.predict(matrix)).max() < 1e-5


def test_it_draws_in_a_space_of_its_own(family: str, kind: Kind) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask({})
    parameters = suggest(trial, (family,), (0, 60))
    own = {name for name in trial.params if name not in ("family", "window_days")}
    assert all(name.startswith(f"{family}.") for name in own)
    assert {name.removeprefix(f"{family}.") for name in own} == set(parameters) - {"family", "window_days"}


def test_an_application_may_name_it_and_it_learns_no_other_kind(family: str, kind: Kind) -> None:
    assert Training.model_validate({"families": [family]}).families == (family,)
    others = [other for other in KINDS if not supports(family, other.name)]
    for other in others:
        with pytest.raises(FamilyError, match=f"{family} learns no model of kind {other.name}"):
            fit(*world(other), other, {"family": family}, 7)
    assert family_of(family) == family_of(family)
