"""Where a blocked payment has no chargeback, a control share tells what holds for all requests; without one figures and models are wrong."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Split
from tidemill.services.retraining.domain.strategy_gate import PairedScores, judge_strategy
from tidemill.services.retraining.domain.training import train
from tidemill.shared.application.control_share import ControlPlan
from tidemill.shared.application.expressions import compile_expression
from tidemill.shared.application.gate_policy import Gate
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.models.assignment import fractions
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.statistics.propensity import label_weights

DAYS, PER_DAY, SHARE, THRESHOLD = 60, 600, 0.1, 0.35
ANSWERS = pa.schema([("predicted", pa.int32())])
CONTROL = ControlPlan.of("payments", "fraud", SHARE, compile_expression("predicted = 1", ANSWERS))
KIND = Binary()


@dataclass(frozen=True)
class World:
    """All requests, what became of each, what the model said that was in service, and what of it is seen."""

    rows: Examples
    served: NDArray[np.float64]
    blocked: NDArray[np.bool_]
    control: NDArray[np.bool_]

    @property
    def weights(self) -> NDArray[np.float64]:
        propensity = CONTROL.propensity(pa.record_batch([pa.array(self.blocked.astype(np.int32))], schema=ANSWERS))
        return label_weights(self.control, propensity)

    def seen(self) -> Examples:
        """With a control share: its blocked requests have labels, with weights."""
        kept = self.weights > 0
        return Examples(*_of(self.rows, kept), self.weights[kept])

    def silent(self) -> Examples:
        """Without one: silence about a blocked payment is taken for an honest one."""
        return Examples(*_of(self.rows, np.ones(len(self.rows), np.bool_), np.where(self.blocked, 0.0, self.rows.labels)))


Parts = tuple[pa.RecordBatch, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _of(rows: Examples, kept: NDArray[np.bool_], labels: NDArray[np.float64] | None = None) -> Parts:
    return rows.features.filter(pa.array(kept)), rows.request_ms[kept], rows.label_ms[kept], (rows.labels if labels is None else labels)[kept]


def world(seed: int, per_day: int = PER_DAY) -> World:
    generator = np.random.default_rng(seed)
    n = DAYS * per_day
    times = np.sort(generator.integers(0, DAYS * DAY_MS, n))
    x, y = generator.normal(size=n), generator.normal(size=n)
    labels = (generator.random(n) < expit(-2.0 + 1.4 * x + 1.0 * y)).astype(np.float64)
    served = expit(-2.0 + 1.7 * x)
    control = fractions([f"payment-{seed}-{i}".encode() for i in range(n)], CONTROL.salt) < SHARE
    features = pa.RecordBatch.from_pydict({"x": pa.array(x), "y": pa.array(y)})
    return World(Examples(features, times, times + 1_000, labels), served, served >= THRESHOLD, control)


@pytest.mark.parametrize("seed", range(3))
def test_figures_weighted_by_the_control_share_are_those_of_all_requests(seed: int) -> None:
    all_of_it = world(seed)
    seen, silent, rows = all_of_it.seen(), all_of_it.silent(), all_of_it.rows
    places = all_of_it.weights > 0
    scores, nothing = all_of_it.served[places], np.full(int(places.sum()), 0.5)
    truth = KIND.figures(rows.labels, all_of_it.served, all_of_it.blocked)
    right = KIND.figures(seen.labels, scores, all_of_it.blocked[places], seen.weights)
    wrong = KIND.figures(silent.labels, all_of_it.served, all_of_it.blocked)
    dropped = KIND.figures(rows.labels[~all_of_it.blocked], all_of_it.served[~all_of_it.blocked], all_of_it.blocked[~all_of_it.blocked])
    interval = KIND.lead(seen.labels, scores, nothing, seen.request_ms // DAY_MS, seen.weights)
    assert interval.low <= truth["auc"] - 0.5 <= interval.high, (interval, truth["auc"])
    assert interval.high - interval.low < 0.05
    # Silence as a negative makes the model look wrong where it is right; without the blocked it looks as if it could not tell.
    assert wrong["auc"] < truth["auc"] - 0.2 and dropped["auc"] < truth["auc"] - 0.05
    assert abs(right["recall"] - truth["recall"]) < 0.04 and wrong["recall"] == 0.0
    assert abs(right["log_loss"] - truth["log_loss"]) < 0.01 < abs(wrong["log_loss"] - truth["log_loss"])
    weights = all_of_it.weights[places]
    rate, error = float(np.average(seen.labels, weights=weights)), float(np.sqrt((weights**2 * seen.labels).sum()) / len(rows))
    assert abs(rate - rows.labels.mean()) < 3 * error < 0.02
    assert silent.labels.mean() < 0.8 * rows.labels.mean()


def test_models_retrained_with_a_control_share_know_the_requests_that_are_blocked() -> None:
    split, training = Split.of(DAYS * DAY_MS, 7, 0), Training(trials=2, windows_days=(0,), families=("lightgbm",), holdout_days=7, min_rows=500)
    off, errors, more = [], [], []
    for seed in range(20, 23):
        all_of_it, later = world(seed, 250), world(seed + 100, 250)
        blocked = later.blocked
        rate = float(later.rows.labels[blocked].mean())
        means, losses = {}, {}
        for name, rows in (("seen", all_of_it.seen()), ("silent", all_of_it.silent()), ("all", all_of_it.rows)):
            scores = OnnxScorer(train(rows, split, "m", "v", training, KIND).artifact).score(later.rows.features)
            means[name], losses[name] = float(scores[blocked].mean()), float(KIND.losses(later.rows.labels, scores).mean())
        assert means["silent"] < 0.5 * rate
        off.append(means["seen"] - rate)
        errors.append(0.5 / np.sqrt((all_of_it.weights > 1).sum()))
        more.append((losses["seen"] - losses["all"], losses["silent"] - losses["all"]))
    assert abs(np.mean(off)) < 3 * np.mean(errors) / np.sqrt(len(off)), off
    # It costs little beside a model that sees every label; the other costs a multiple of that.
    seen, silent = np.mean(more, axis=0)
    assert seen < 0.01 < 0.2 * silent


def test_the_gate_sees_harm_among_the_requests_that_are_blocked() -> None:
    all_of_it = world(3)
    seen = all_of_it.seen()
    kept = all_of_it.weights > 0
    champion = all_of_it.served[kept]
    x, y = (seen.features.column(name).to_numpy() for name in ("x", "y"))
    # Better among the requests that pass, and it takes the blocked for honest.
    candidate = np.where(champion >= THRESHOLD, 0.02, expit(-2.0 + 1.4 * x + 1.0 * y))
    blocks, passing = seen.request_ms // DAY_MS, champion < THRESHOLD
    unseen = PairedScores(seen.labels[passing], candidate[passing], champion[passing], blocks[passing], {})
    assert judge_strategy(KIND, unseen, Gate(), 0.05, 10).passed
    verdict = judge_strategy(KIND, PairedScores(seen.labels, candidate, champion, blocks, {}, seen.weights), Gate(), 0.05, 10)
    assert not verdict.passed and verdict.figures["loss_difference"] > 0.1
    whole = KIND.losses(all_of_it.rows.labels, np.where(all_of_it.blocked, 0.02, expit(-2.0 + 1.4 * _x(all_of_it, "x") + _x(all_of_it, "y"))))
    truth = float((whole - KIND.losses(all_of_it.rows.labels, all_of_it.served)).mean())
    assert abs(verdict.figures["loss_difference"] - truth) < 0.15 * truth


def _x(of_world: World, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = of_world.rows.features.column(name).to_numpy()
    return values
