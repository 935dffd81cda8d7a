"""Splits without leaks, a gate that asks for evidence, training that gives the same bytes."""

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.services.retraining.domain.examples import DAY_MS, Examples, Split, label_horizon_ms
from tidemill.services.retraining.domain.gate import judge
from tidemill.services.retraining.domain.training import refit, train
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.statistics.metrics import roc_auc

DAYS = 60
PER_DAY = 100


def examples(seed: int = 0, delay_ms: int = DAY_MS) -> Examples:
    generator = np.random.default_rng(seed)
    n = DAYS * PER_DAY
    times = np.sort(generator.integers(0, DAYS * DAY_MS, n))
    x, y = generator.normal(size=n), generator.normal(size=n)
    place = generator.choice(["a", "b", "c"], n)
    logit = 1.5 * x + np.where(place == "a", 1.0, -1.0)
    labels = (generator.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    columns = [pa.array(np.where(generator.random(n) < 0.1, np.nan, x), from_pandas=True), pa.array(y), pa.array(place)]
    late = generator.integers(0, delay_ms, n)
    return Examples(pa.RecordBatch.from_arrays(columns, names=["x", "y", "place"]), times, times + late, labels)


def parts(rows: Examples, day: int = DAYS) -> Split:
    return Split.of(day * DAY_MS, 7, label_horizon_ms(rows, day * DAY_MS, 2 * DAY_MS, False))


def settings(**changes: object) -> Training:
    return Training(**{"trials": 4, "windows_days": (0, 20), "holdout_days": 7, "min_rows": 500, **changes})


def test_no_part_learns_what_a_later_one_is_judged_on() -> None:
    rows = examples()
    split = parts(rows)
    learned, validation, gate = split.learning(rows, split.validation_start, 0), split.validation(rows), split.gate(rows, 0)
    assert learned.label_ms.max() < validation.request_ms.min(), "the search knows no label that came after the first validation request"
    assert validation.label_ms.max() < split.gate_start <= gate.request_ms.min()
    refit = split.learning(rows, split.gate_start, 0)
    assert refit.label_ms.max() < gate.request_ms.min()
    assert len(learned) and len(validation) and len(gate)


def test_the_gate_avoids_what_the_champion_learned() -> None:
    rows = examples()
    split = parts(rows)
    later = split.gate_start + 2 * DAY_MS
    assert split.gate(rows, later).request_ms.min() >= later


def test_a_window_keeps_the_last_days_only() -> None:
    rows = examples()
    split = parts(rows)
    assert split.learning(rows, split.gate_start, 20).request_ms.min() >= split.learned_until(split.gate_start) - 20 * DAY_MS


@pytest.mark.lasts(5)
@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_training_is_a_pure_function_and_the_artifact_serves_what_was_learned(family: str) -> None:
    rows = examples()
    split = parts(rows)
    first, again = (train(rows, split, "m", "v1", settings(families=(family,)), Binary()) for _ in range(2))
    assert first.artifact.to_bytes() == again.artifact.to_bytes()
    gate = split.gate(rows, 0)
    scores = OnnxScorer(first.artifact).score(gate.features)
    assert roc_auc(gate.labels, scores) > 0.75
    assert first.artifact.signature.details["learned_until_ms"] == str(split.gate_start - split.horizon_ms)
    assert first.artifact.signature.family == family


@pytest.mark.lasts(4)
def test_the_future_changes_nothing() -> None:
    """Labels of the gate are never learned from: flipped, they give the same model."""
    rows = examples()
    split = parts(rows)
    flipped = Examples(rows.features, rows.request_ms, rows.label_ms, np.where(rows.label_ms >= split.gate_start, 1 - rows.labels, rows.labels))
    first, second = (train(chosen, split, "m", "v1", settings(), Binary()) for chosen in (rows, flipped))
    assert first.artifact.to_bytes() == second.artifact.to_bytes()


def rare(share: float, n: int = 60_000) -> Examples:
    generator = np.random.default_rng(6)
    times = np.sort(generator.integers(0, DAYS * DAY_MS, n))
    x = generator.normal(size=n)
    labels = (generator.random(n) < np.minimum(1.0, share * np.exp(1.5 * x - 1.125))).astype(np.float64)
    return Examples(pa.RecordBatch.from_pydict({"x": pa.array(x)}), times, times + 1_000, labels)


def test_thinning_keeps_the_rare_class_and_the_weights_its_share() -> None:
    rows = rare(0.005)
    places, weights = rows.thinning(5_000, Binary())
    positives = int(rows.labels.sum())
    assert len(places) <= 5_000 and rows.labels[places].sum() == positives, "every fifth row in order kept a twelfth of them"
    assert np.average(rows.labels[places], weights=weights) == pytest.approx(rows.labels.mean()) and weights.mean() == pytest.approx(1.0)
    assert (np.diff(places) > 0).all() and np.histogram(rows.request_ms[places], 6)[0].min() > len(places) / 7
    everything, ones = rows.thinning(len(rows), Binary())
    assert (everything == np.arange(len(rows))).all() and (ones == 1).all()


@pytest.mark.lasts(3)
def test_a_rare_class_is_learned_answered_with_and_calibrated() -> None:
    """Of 0.5 %: the search sees 25,000 rows of which a stride would keep too few positives, and some requests are answered with yes."""
    rows = rare(0.005)
    split = parts(rows)
    trained = train(rows, split, "m", "v", settings(families=("lightgbm",), trials=2), Binary())
    gate = split.gate(rows, 0)
    scores = OnnxScorer(trained.artifact).score(gate.features)
    assert roc_auc(gate.labels, scores) > 0.8 and scores.mean() == pytest.approx(gate.labels.mean(), rel=0.4)
    assert 0 < (scores >= trained.threshold).mean() < 0.05


def test_no_candidate_without_enough_of_each_class() -> None:
    rows = examples()
    split = parts(rows)
    where = {"training": rows.request_ms < split.validation_start, "validation": rows.request_ms < split.gate_start - split.horizon_ms}
    for what, until in where.items():
        labels = np.where(until & ((rows.request_ms >= split.validation_start) | (what == "training")), 0.0, rows.labels)
        with pytest.raises(TooFewRowsError, match=f"both classes among the {what} rows, found 0 positives .*10 are needed"):
            train(Examples(rows.features, rows.request_ms, rows.label_ms, labels), split, "m", "v", settings(), Binary())


def test_a_window_without_enough_of_each_class_is_left_out_and_named() -> None:
    """The last three weeks before the validation hold no positive: only the whole history can be learned from."""
    rows = examples()
    split = parts(rows)
    recent = (rows.request_ms >= split.validation_start - 23 * DAY_MS) & (rows.request_ms < split.validation_start)
    gap = Examples(rows.features, rows.request_ms, rows.label_ms, np.where(recent, 0.0, rows.labels))
    trained = train(gap, split, "m", "v", settings(families=("logistic_regression",)), Binary())
    assert trained.parameters["window_days"] == 0 and trained.left_out.startswith("20 days: 0 positives of")
    with pytest.raises(TooFewRowsError, match="a window of history with enough of each class, found 20 days: 0 positives"):
        train(gap, split, "m", "v", settings(windows_days=(20,)), Binary())


def test_too_few_rows_and_one_class_are_said() -> None:
    rows = examples()
    split = parts(rows)
    with pytest.raises(TooFewRowsError, match="at least 100000 training rows"):
        train(rows, split, "m", "v", settings(min_rows=100_000), Binary())
    with pytest.raises(TooFewRowsError, match="both classes"):
        train(Examples(rows.features, rows.request_ms, rows.label_ms, np.zeros(len(rows))), split, "m", "v", settings(), Binary())


def scored(days: int = 7, skill: float = 0.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    n = days * 300
    truth = generator.random(n)
    labels = (generator.random(n) < truth).astype(float)
    champion = np.clip(truth + generator.normal(0, 0.2, n), 0.02, 0.98)
    challenger = np.clip(truth + generator.normal(0, 0.2 - skill, n), 0.02, 0.98)
    return labels, challenger, champion, np.repeat(np.arange(days), 300) * DAY_MS


def test_the_gate_passes_who_is_better_and_refuses_who_is_not() -> None:
    labels, better, champion, times = scored(skill=0.15)
    verdict = judge(Binary(), labels, better, champion, times, 0.05, 500)
    assert verdict.passed and verdict.figures["p_value"] < 0.05 and verdict.figures["loss"] < verdict.figures["champion_loss"]
    assert not judge(Binary(), labels, champion, better, times, 0.05, 500).passed


def test_equals_pass_about_as_often_as_the_level_says() -> None:
    passed = sum(judge(Binary(), *scored(seed=seed), 0.05, 500).passed for seed in range(300))
    assert passed < 0.09 * 300


def test_the_gate_wants_rows_and_days() -> None:
    labels, better, champion, times = scored(skill=0.15)
    assert "rows" in judge(Binary(), labels[:100], better[:100], champion[:100], times[:100], 0.05, 500).reason
    assert "2 days" in judge(Binary(), labels[:600], better[:600], champion[:600], times[:600], 0.05, 500).reason
    assert not judge(Binary(), labels[:0], better[:0], champion[:0], times[:0], 0.05, 500).passed


@pytest.mark.lasts(3)
def test_bad_labels_teach_nothing_and_end_no_training() -> None:
    rows = examples()
    labels = rows.labels.copy()
    labels[[100, 2_000, 3_000, 4_000]] = [np.nan, 7.0, np.inf, 0.5]
    bad, clean = Examples(rows.features, rows.request_ms, rows.label_ms, labels), rows.where(np.isin(labels, (0.0, 1.0)))
    split, few = parts(rows), settings(trials=1, families=("logistic_regression",), windows_days=(0,))
    assert train(bad, split, "m", "v", few, Binary()).artifact.to_bytes() == train(clean, split, "m", "v", few, Binary()).artifact.to_bytes()


@pytest.mark.lasts(5)
@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_values_beyond_32_bits_are_missing_in_training_and_in_service(family: str) -> None:
    rows = examples()
    huge, missing = (rows.features.column("x").to_numpy(zero_copy_only=False).copy() for _ in range(2))
    places = np.arange(50, 5_000, 500)
    huge[places] = np.tile([1.7e308, -1e308, 3.5e38, 1e39, -(2.0**64)], 2)
    missing[places] = np.nan
    split, few = parts(rows), settings(trials=1, families=(family,), windows_days=(0,))
    made = []
    for x in (huge, missing):
        features = rows.features.set_column(0, "x", pa.array(x, from_pandas=True))
        candidate = train(Examples(features, rows.request_ms, rows.label_ms, rows.labels), split, "m", "v", few, Binary())
        scores = OnnxScorer(candidate.artifact).score(features)
        assert np.isfinite(scores).all()
        made.append((candidate.artifact.to_bytes(), scores.tolist()))
    assert made[0] == made[1]


def test_the_last_week_is_learned_by_what_serves_and_not_by_what_is_judged() -> None:
    """The concept turns over at the begin of the gate's week: only a model that has learned that week knows it."""
    rows = examples()
    split, few = parts(rows), settings(trials=1, families=("logistic_regression",), windows_days=(9,))
    turned = Examples(rows.features, rows.request_ms, rows.label_ms, np.where(rows.request_ms >= split.gate_start, 1 - rows.labels, rows.labels))
    judged = train(turned, split, "m", "v1", few, Binary())
    served = refit(turned, split, judged, few, Binary())
    gate = split.gate(turned, 0)
    assert roc_auc(gate.labels, OnnxScorer(judged.artifact).score(gate.features)) < 0.3
    assert roc_auc(gate.labels, OnnxScorer(served).score(gate.features)) > 0.6
    details = served.signature.details
    assert (details["judged_from_ms"], details["judged_until_ms"]) == (str(split.gate_start), str(split.gate_end))
    assert details["learned_until_ms"] == str(split.end - split.horizon_ms)
    assert details["learned_rows"] == str(len(split.learning(turned, split.end, 9)))
    # One recipe, and the same rows give the same bytes.
    assert served.signature.threshold == judged.artifact.signature.threshold
    assert refit(turned, split, judged, few, Binary()).to_bytes() == served.to_bytes()


def test_the_rows_a_served_model_learned_never_judge_it_again() -> None:
    rows = examples()
    split, few = parts(rows, 50), settings(trials=1, families=("logistic_regression",), windows_days=(0,))
    known = rows.where(rows.label_ms < 50 * DAY_MS)
    served = refit(known, split, train(known, split, "m", "v1", few, Binary()), few, Binary())
    later = parts(rows, 55)
    gate = later.gate(rows, int(served.signature.details["learned_until_ms"]))
    learned = split.learning(rows, split.end, 0)
    assert len(gate) and gate.request_ms.min() > learned.request_ms.max()


@pytest.mark.parametrize("end", ["validation_start", "gate_start", "end"])
def test_no_survivors_are_learned_where_silence_is_a_label(end: str) -> None:
    """Chargebacks come within hours, silence means no after two days: before that only positives are known."""
    generator = np.random.default_rng(3)
    n, days, timeout_ms = 20_000, 40, 2 * DAY_MS
    request = np.sort(generator.integers(0, days * DAY_MS, n))
    labels = (generator.random(n) < 0.1).astype(np.float64)
    label_ms = request + np.where(labels > 0, generator.integers(0, timeout_ms, n), timeout_ms)
    known = label_ms < days * DAY_MS
    x = pa.RecordBatch.from_arrays([pa.array(generator.normal(size=n))], names=["x"])
    rows = Examples(x, request, label_ms, labels).where(known)
    assert rows.labels[rows.request_ms >= (days - 2) * DAY_MS].mean() == 1.0, "what is known of the last two days"
    split = Split.of(days * DAY_MS, 7, label_horizon_ms(rows, days * DAY_MS, timeout_ms, True))
    learned = split.learning(rows, getattr(split, end), 0)
    for recent in (1, 2, 3):
        share = learned.labels[learned.request_ms >= learned.request_ms.max() - recent * DAY_MS].mean()
        assert abs(share - 0.1) < 0.05, (recent, share)
    for part in (split.validation(rows), split.gate(rows, 0)):
        assert abs(part.labels.mean() - 0.1) < 0.03


def test_the_horizon_is_the_quantile_of_delays_that_had_time_to_be_long() -> None:
    generator = np.random.default_rng(4)
    n, days = 20_000, 10
    request = np.sort(generator.integers(0, days * DAY_MS, n))
    delay = generator.integers(0, 3 * DAY_MS, n)
    x = pa.RecordBatch.from_arrays([pa.array(np.zeros(n))], names=["x"])
    rows = Examples(x, request, request + delay, np.zeros(n))
    rows = rows.where(rows.label_ms < days * DAY_MS)
    assert label_horizon_ms(rows, days * DAY_MS, 3 * DAY_MS, False) == pytest.approx(0.95 * 3 * DAY_MS, rel=0.01)
