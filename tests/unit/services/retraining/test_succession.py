"""Who serves next: a refit of what was admitted, a recipe that passes, or nobody; on rows that are made up, with real models."""

from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Split
from tidemill.services.retraining.domain.recipe import Recipe
from tidemill.services.retraining.domain.succession import does_better, first_model, successor
from tidemill.services.retraining.domain.training_context import Proposal, TrainingContext
from tidemill.services.retraining.domain.walk_forward import refit_instants, walk_forward
from tidemill.shared.application.model import Model
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.onnx_scorer import OnnxScorer

DAYS, PER_DAY = 100, 120
HOUR_MS = 3_600_000
FAMILY = {"family": "logistic_regression", "window_days": 0, "strength": 0.1}


def rows(seed: int = 3, drift_day: int = DAYS) -> Examples:
    """A question whose answer turns round on a day."""
    random = np.random.default_rng(seed)
    n = DAYS * PER_DAY
    times = np.sort(random.integers(0, DAYS * DAY_MS, n))
    x, y = random.normal(size=n), random.normal(size=n)
    logit = np.where(times < drift_day * DAY_MS, 1.5, -1.5) * x + 0.5 * y - 0.5
    labels = (random.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    features = pa.RecordBatch.from_pydict({"x": pa.array(x), "y": pa.array(y), "place": pa.array(random.choice(["a", "b"], n))})
    return Examples(features, times, times + random.integers(0, HOUR_MS, n), labels)


def settings(**gate: object) -> Model:
    return Model.model_validate({
        "ask": "s", "features": ["x", "y", "place"], "label": {"stream": "l", "join": "id", "value": "TRUE", "max_delay": "2h"},
        "fallback": {"default": 0.4}, "slices": ["place", "other"], "gate": gate,
        "retraining": {"schedule": "14d"},
        "training": Training(families=("logistic_regression",), trials=2, windows_days=(0,), holdout_days=7, min_rows=500),
    })  # fmt: skip


def bench(examples: Examples, served: NDArray[np.float64] | None = None, **more: object) -> TrainingContext:
    answers = np.full(len(examples), np.nan) if served is None else served
    values = {"is_admitted": False, "is_searched": False, **more}
    return TrainingContext("m", "v", settings(), Binary(), examples, answers, "digest", DAYS * DAY_MS, HOUR_MS, **values)  # type: ignore[arg-type]  # values of any type, by name


def recipe(**changes: object) -> str:
    return Recipe({**FAMILY, **changes}, "digest").text


@cache
def champion_of(examples_seed: int, until_day: int, drift_day: int = DAYS) -> OnnxScorer:
    split = Split.of(until_day * DAY_MS, 7, HOUR_MS)
    return OnnxScorer(bench(rows(examples_seed, drift_day)).fit(split, split.end, Recipe(FAMILY, "digest"), 0.5))


def noisy(scores: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    logits = np.log(scores / (1 - scores)) + np.random.default_rng(1).normal(0, noise, len(scores))
    return 1 / (1 + np.exp(-logits))


def test_a_first_model_is_held_against_the_fallback() -> None:
    proposal = first_model(bench(rows()))
    assert proposal.verdict.passed and proposal.details["admission"] == "first model" and "gate_level" not in proposal.figures
    nothing = rows()
    guess = (np.random.default_rng(1).random(len(nothing)) < 0.4).astype(np.float64)
    assert not first_model(bench(replace(nothing, labels=guess))).verdict.passed


def test_an_admitted_recipe_is_refitted_on_everything_known_and_not_judged_again() -> None:
    examples, champion = rows(), champion_of(3, 60)
    proposal = successor(bench(examples, champion.score(examples.features), incumbent=recipe(), is_admitted=True), champion)
    assert proposal.verdict.passed and proposal.details["admission"] == "refit of an admitted recipe"
    assert proposal.recipe.text == recipe() and "gate_level" not in proposal.figures and not proposal.spent
    known = examples.request_ms < DAYS * DAY_MS - HOUR_MS
    assert proposal.artifact.signature.details["learned_rows"] == str(int((known & (examples.label_ms < DAYS * DAY_MS)).sum()))
    assert 0.2 < proposal.artifact.signature.threshold < 0.8, "from what was answered before the label was known"


def test_a_refit_that_has_gone_wrong_is_refused_although_its_recipe_is_admitted() -> None:
    """A window of one family that cannot fit what it is given: the champion, which has not seen the rows, does better on them."""
    examples, champion = rows(), champion_of(3, 60)
    proposal = successor(bench(examples, champion.score(examples.features), incumbent=recipe(strength=1e-9), is_admitted=True), champion)
    assert not proposal.verdict.passed and "expected it to fit what it has learned no worse than the model that serves" in proposal.verdict.reason


@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_a_recipe_in_doubt_has_to_pass_and_spends_a_level() -> None:
    examples, champion = rows(), champion_of(3, 60)
    doubted = bench(examples, champion.score(examples.features), incumbent=recipe(strength=1e-9))
    proposal = successor(doubted, champion)
    assert proposal.verdict.passed and proposal.details["admission"] == "gate" and proposal.recipe.text != recipe(strength=1e-9)
    assert proposal.figures["gate_level"] == 0.01 and proposal.spent == ((DAYS * DAY_MS, 0.01),)
    assert proposal.figures["gate_days"] == 28 and proposal.figures["slices_judged"] == 2, "the column that the model does not read is no slice of it"


@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_a_better_recipe_replaces_an_admitted_one_and_a_worse_one_leaves_it() -> None:
    examples, champion = rows(), champion_of(3, 60)
    dull = np.full(len(examples), 0.4)
    other = bench(examples, dull, incumbent=recipe(strength=1e-9), is_admitted=True, is_searched=True)
    assert successor(other, champion).details["admission"] == "gate"
    # What served knew more than any refit can: the labels.
    knowing = noisy(np.clip(0.5 + 0.4 * (examples.labels - 0.5), 0.01, 0.99), 0.01)
    proposal = successor(replace(other, served=knowing, incumbent=recipe(strength=0.02)), champion)
    assert (
        proposal.details["admission"] == "refit of an admitted recipe" and proposal.verdict.passed and proposal.recipe.text == recipe(strength=0.02)
    )
    assert "refused: non-inferiority" in proposal.verdict.reason and proposal.figures["other_log_e"] < 0 and proposal.figures["gate_level"] == 0.01


def test_nobody_is_admitted_against_what_served_better_and_both_looks_are_paid_for() -> None:
    examples, champion = rows(), champion_of(3, 60)
    knowing = noisy(np.clip(0.5 + 0.4 * (examples.labels - 0.5), 0.01, 0.99), 0.01)
    proposal = successor(bench(examples, knowing, incumbent=recipe(strength=0.02)), champion)
    assert not proposal.verdict.passed and "which serves, refused" in proposal.verdict.reason
    assert [proposal.figures[name] for name in ("gate_level", "incumbent_level")] == pytest.approx([0.01, 0.0075]) and len(proposal.spent) == 2


def test_requests_that_the_fallback_answered_judge_nobody() -> None:
    examples, champion = rows(), champion_of(3, 60)
    answered = np.where(examples.request_ms > (DAYS - 5) * DAY_MS, champion.score(examples.features), np.nan)
    proposal = successor(bench(examples, answered), champion)
    assert not proposal.verdict.passed and "rows: expected 500 requests over 7 days" in proposal.verdict.reason


def test_too_few_rows_to_search_refit_what_is_admitted_and_fail_without_it() -> None:
    examples, champion = rows(), champion_of(3, 60)
    few = replace(bench(examples, champion.score(examples.features), is_searched=True), settings=settings(span="98d"))
    few = replace(few, settings=few.settings.model_copy(update={"training": few.settings.training.model_copy(update={"min_rows": 100_000})}))
    with pytest.raises(TooFewRowsError, match="100000 training rows"):
        successor(few, champion)
    proposal = successor(replace(few, incumbent=recipe(), is_admitted=True), champion)
    assert proposal.verdict.passed and "no search" in proposal.verdict.reason


def test_the_walk_learns_nothing_of_its_future() -> None:
    """Labels from an instant on are turned round: what was answered before is the same, what was answered long after is not."""
    examples = rows()
    split = bench(examples).split()
    turned = split.gate_start + 14 * DAY_MS
    scores = []
    for changed in (examples, replace(examples, labels=np.where(examples.label_ms >= turned, 1 - examples.labels, examples.labels))):
        mine = bench(changed)
        part = changed.where((changed.request_ms >= split.gate_start) & (changed.request_ms < split.gate_end))
        walk = walk_forward(part, split, 7 * DAY_MS, lambda at, mine=mine: mine.fit(split, at, Recipe(FAMILY, "digest"), 0.5))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        scores.append(walk.scores)
    before = part.request_ms < turned
    assert (scores[0][before] == scores[1][before]).all() and len(scores[0]) == len(part)
    after = part.request_ms >= turned + 7 * DAY_MS
    assert (scores[0][after] != scores[1][after]).mean() > 0.9


def test_a_recipe_is_refitted_four_times_at_most_and_a_short_rest_belongs_to_the_fit_before() -> None:
    split = Split(0, 0, 0, 0, 28 * DAY_MS, 28 * DAY_MS)
    for every, expected in ((1, [0, 7, 14, 21]), (10, [0, 10, 20]), (12, [0, 12]), (21, [0]), (None, [0])):
        instants = refit_instants(split, None if every is None else every * DAY_MS)
        assert [at // DAY_MS for at in instants] == expected


def test_the_model_before_comes_back_only_when_it_is_shown_to_be_better() -> None:
    drift = 50  # The champion learned after the answer had turned round, the model before did not.
    examples, old, new = rows(5, drift), champion_of(5, 45, drift), champion_of(5, 90, drift)
    mine = bench(examples)
    assert does_better(mine, old, new, ()).figures["predecessor_days"] == 10
    worse = does_better(mine, old, new, ())
    assert not worse.passed and worse.figures["reverse_level"] == 0.01
    assert does_better(mine, new, old, ()).passed
    assert not does_better(mine, new, new, ()).passed
    assert "reverse_level" not in does_better(replace(mine, end_ms=92 * DAY_MS), new, old, ()).figures, "two days show nothing, and spend nothing"


def test_a_proposal_is_the_same_every_time() -> None:
    def once() -> Proposal:
        examples, champion = rows(), champion_of(3, 60)
        return successor(bench(examples, champion.score(examples.features)), champion)

    first, again = once(), once()
    assert first.artifact.to_bytes() == again.artifact.to_bytes() and first.figures == again.figures
    assert isinstance(first.artifact, Artifact)
