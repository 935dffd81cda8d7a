"""What every model family does, whatever its library: the same bytes again, served as it was trained, missing values, weights, its own draws."""

from typing import Any

import numpy as np
import optuna
import pytest

from tidemill.services.retraining.domain.families.family import Fitted, Matrix, Scores
from tidemill.services.retraining.domain.families.registry import family_of, fit, suggest
from tidemill.shared.application.families import FAMILIES
from tidemill.shared.application.model import Training
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column, Signature
from tidemill.shared.statistics.metrics import log_loss, roc_auc

TOLERANCE = 1e-6
WIDTH = 6

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def world(seed: int = 0, n: int = 2_000) -> tuple[Matrix, Scores]:
    """Columns that tell something, one with missing values that tell something too, one constant, one that is never known."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, WIDTH)).astype(np.float32)
    missing = rng.random(n) < 0.2
    labels = (rng.random(n) < 1 / (1 + np.exp(-(1.5 * matrix[:, 0] + matrix[:, 1] - 0.8 * missing)))).astype(np.float64)
    matrix[missing, 2], matrix[:, 4], matrix[:, 5] = np.nan, 3.0, np.nan
    matrix[rng.random(n) < 0.05, 0] = np.nan
    return matrix, labels


MATRIX, LABELS = world()
FRESH, FRESH_LABELS = world(1)


def drawn(family: str, seed: int = 0) -> dict[str, Any]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return suggest(study.ask({}), (family,), (0,))


def served(family: str, fitted: Fitted, tolerance: float = TOLERANCE) -> OnnxScorer:
    columns = tuple(Column(name=f"x{i}", type="double") for i in range(WIDTH))
    rows = tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in FRESH[:16])
    scores = tuple(fitted.predict(FRESH[:16]).tolist())
    signature = Signature(
        model="m", version="v", family=family, columns=columns, threshold=0.5, parity_rows=rows, parity_scores=scores, parity_tolerance=tolerance
    )
    return OnnxScorer(Artifact(signature, fitted.export()))


def test_it_is_learned_from_and_served_as_the_library_scores(family: str) -> None:
    for seed in range(3):
        fitted = fit(MATRIX, LABELS, drawn(family, seed), 7)
        wanted = fitted.predict(FRESH)
        assert roc_auc(FRESH_LABELS, wanted) > 0.78 and log_loss(FRESH_LABELS, wanted) < 0.62, seed
        assert np.abs(served(family, fitted).score_matrix(FRESH) - wanted).max() <= TOLERANCE


def test_the_same_arguments_give_the_same_bytes(family: str) -> None:
    first, again = (fit(MATRIX, LABELS, drawn(family), 7).export() for _ in range(2))
    assert first == again


def test_missing_values_are_scored_where_the_library_scores_them(family: str) -> None:
    """Also in columns that were always known, and of rows of which nothing is known."""
    rng = np.random.default_rng(2)
    rows = np.where(rng.random(FRESH.shape) < 0.5, np.nan, FRESH).astype(np.float32)
    rows[0] = np.nan
    fitted = fit(MATRIX, LABELS, drawn(family), 7)
    scores = served(family, fitted).score_matrix(rows)
    assert np.isfinite(scores).all() and np.abs(scores - fitted.predict(rows)).max() <= TOLERANCE


def test_one_row_scores_what_it_scores_among_others(family: str) -> None:
    scorer = served(family, fit(MATRIX, LABELS, drawn(family), 7))
    together = scorer.score_matrix(FRESH[:70])
    assert together.tobytes() == np.concatenate([scorer.score_matrix(FRESH[i : i + 1]) for i in range(70)]).tobytes()


def test_a_row_that_weighs_nothing_teaches_nothing(family: str) -> None:
    """Half of the rows have turned labels: without weight they change nothing that matters, with it they do."""
    matrix, labels = np.concatenate([MATRIX, MATRIX]), np.concatenate([LABELS, 1 - LABELS])
    weights = np.repeat([1.0, 1e-9], len(LABELS))
    scores = {
        "unweighted": fit(matrix, labels, drawn(family), 7).predict(FRESH),
        "weighted": fit(matrix, labels, drawn(family), 7, weights).predict(FRESH),
    }
    assert roc_auc(FRESH_LABELS, scores["weighted"]) > 0.75 > 0.65 > roc_auc(FRESH_LABELS, scores["unweighted"])


def test_it_draws_in_a_space_of_its_own(family: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask({})
    parameters = suggest(trial, (family,), (0, 60))
    own = {name for name in trial.params if name not in ("family", "window_days")}
    assert all(name.startswith(f"{family}.") for name in own)
    assert {name.removeprefix(f"{family}.") for name in own} == set(parameters) - {"family", "window_days"}


def test_an_application_may_name_it(family: str) -> None:
    assert Training.model_validate({"families": [family]}).families == (family,)
    assert family_of(family) is family_of(family)
