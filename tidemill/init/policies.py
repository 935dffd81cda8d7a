"""Policies that fit the table: when there are labels enough for a first model, what it is judged on, how often it may be trained."""

from dataclasses import dataclass

import numpy as np

from tidemill.init.question import ROWS_OF_A_CLASS, Question
from tidemill.init.timeline import DAY_MS, Timeline, words
from tidemill.shared.application.values import LONGEST_MS, UNITS_MS

_BOOTSTRAP_SHARE = 0.4
_MOST_BOOTSTRAP = 5_000
_HOLDOUT_SHARE, _LARGEST_HOLDOUT = 0.12, 0.2
_RARE, _SURE = 0.05, 8
"""Share of a class that is rare, and rows of it that will hardly ever be less than three by chance."""
_USUAL_DAYS = 7
_BLOCKS = 7
_BLOCKS_MS = tuple(
    count * UNITS_MS[unit]
    for count, unit in (
        (1, "d"), (12, "h"), (6, "h"), (3, "h"), (1, "h"), (30, "m"), (10, "m"), (5, "m"), (1, "m"), (30, "s"), (10, "s"), (1, "s"),
        (100, "ms"), (1, "ms"),
    )
)  # fmt: skip
_JUDGES = 2_000
_PARTS_OF_A_TRAINING = 4
_POSITIVES = 5
_LEAST_POSITIVES = 3
_LEAST_GATE_ROWS = 20
_CANARY_BLOCKS = 3
_MOST_STAGE_LABELS = 200
_RARE_SHARE, _LEAST_CLASSES = 0.01, 2
_OLD_MS = 60 * DAY_MS
_LEAST_DELAY_MS = DAY_MS
_NICE_MS = tuple(
    count * UNITS_MS[unit]
    for unit, counts in (
        ("s", (1, 10, 30)),
        ("m", (1, 5, 10, 30)),
        ("h", (1, 3, 6, 12, 24, 36, 48)),
        ("d", (3, 4, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 365)),
    )
    for count in counts
)


@dataclass(frozen=True, slots=True)
class StageSizes:
    """How long a new recipe is tried in shadow and as a canary, and with how many labels at least."""

    shadow: str
    shadow_labels: int
    canary: str
    canary_labels: int
    longest: str


@dataclass(frozen=True, slots=True)
class Policies:
    """Numbers of the application file, and why they are so.

    Attributes
    ----------
    short
        What the table is too short for; empty when it will do.
    """

    bootstrap_labels: int
    holdout_days: float
    min_rows: int
    min_positives: int
    gate_min_rows: int
    block: str
    windows_days: tuple[int, ...]
    trials: int
    cool_down: str
    schedule: str | None
    budget_per_30d: int
    max_delay: str
    max_delay_ms: int
    stages: StageSizes
    short: tuple[str, ...]


def policies(question: Question, times: Timeline, now_ms: int) -> Policies:
    """Scale the policies: of 1,000 rows the first 400 labels train, and two stretches of an eighth judge."""
    known, days = question.known, times.span_ms / DAY_MS
    rows_a_day = known / max(days, 1e-9)
    short = []
    holdout = _holdout_days(days, rows_a_day, _rarest_share(question))
    block_ms = next((nice for nice in _BLOCKS_MS if holdout * DAY_MS // nice >= _BLOCKS), _BLOCKS_MS[-1])
    instants = len(np.unique(times.asked_ms))
    if instants * _HOLDOUT_SHARE < _BLOCKS:
        short.append(
            f"the table has {instants:,} different times, and a model is judged over at least {_BLOCKS} stretches of time that it has not learned"
            " from: none will be promoted from this table alone"
            + ("; without --time the row number is time, and it may" if times.step_ms is None else "")
        )
    judged = int(rows_a_day * holdout)
    delays = times.delays_ms
    late_days = float(np.quantile(delays, 0.95)) / DAY_MS if len(delays) else 0.0
    # Validation and gate lie behind what is learned, each a horizon of late labels further.
    needed = int(np.ceil((3 * holdout + 2 * late_days) * rows_a_day))
    bootstrap = int(np.clip(known * _BOOTSTRAP_SHARE, 10, max(10, _MOST_BOOTSTRAP, needed)))
    bootstrap = max(bootstrap, min(needed, known))
    positives = _POSITIVES
    if question.kind != "regression":
        name, count = question.rarest
        share = _rarest_share(question)
        in_holdout = share * judged
        positives = int(np.clip(in_holdout // 2, _LEAST_POSITIVES, 10))
        if in_holdout < _LEAST_POSITIVES or share * bootstrap < _PARTS_OF_A_TRAINING * _LEAST_POSITIVES:
            enough = int(np.ceil(ROWS_OF_A_CLASS / max(share, 1e-9)))
            if enough > known:
                short.append(
                    f"the class {name!r} has {count:,} of {known:,} rows: a first model needs about {enough:,} labels at this share, so none is asked"
                    f" for before (retraining.bootstrap_labels)"
                )
            bootstrap = max(bootstrap, enough)
            positives = _LEAST_POSITIVES
    cool_down = _nice(times.span_ms // 10)
    max_delay_ms = min(LONGEST_MS, _nice(max(_LEAST_DELAY_MS, int(delays.max() * 1.2) if len(delays) else 0)))
    ended = now_ms - int(times.asked_ms[-1]) > _OLD_MS
    cool_days = max(1, cool_down // DAY_MS)
    return Policies(
        bootstrap_labels=bootstrap,
        holdout_days=holdout,
        min_rows=int(np.clip(bootstrap * 0.25, 10, 1_000)),
        min_positives=positives,
        gate_min_rows=int(np.clip(judged * 0.5, _LEAST_GATE_ROWS, 500)),
        block=words(block_ms),
        windows_days=(0,) if days < 180 else (0, max(30, round(days / 4))),
        trials=6,
        cool_down=words(cool_down),
        schedule=None if ended else words(_nice(max(2 * cool_down, times.span_ms // 4))),
        budget_per_30d=int(np.clip(30 // cool_days, 1, 10)),
        max_delay=words(max_delay_ms),
        max_delay_ms=max_delay_ms,
        stages=_stages(block_ms, rows_a_day),
        short=tuple(short),
    )


def _stages(block_ms: int, rows_a_day: float) -> StageSizes:
    """Return a shadow of seven blocks, of which evidence can come, a canary of three, and a time that is four shadows long at least."""
    shadow, canary = _nice(_BLOCKS * block_ms), _nice(_CANARY_BLOCKS * block_ms)
    longest = max(_nice(4 * _BLOCKS * block_ms), _nice(2 * (shadow + canary)))
    labels = [int(np.clip(0.5 * rows_a_day * stage / DAY_MS, _LEAST_GATE_ROWS, _MOST_STAGE_LABELS)) for stage in (shadow, canary)]
    return StageSizes(words(shadow), labels[0], words(canary), labels[1], words(longest))


def too_rare(question: Question) -> tuple[str, ...]:
    """Return the classes of several that no model could learn from this table, where all of them are at most a hundredth of its labels.

    A first model waits until every class has rows enough in each part of a training: one label that was a slip would keep a table without a model.
    Where they are more than a hundredth, or fewer than two classes would be left, they are part of the question.
    """
    if question.kind != "multiclass":
        return ()
    rare = tuple(name for name, count in question.counts.items() if count < ROWS_OF_A_CLASS)
    left = len(question.counts) - len(rare)
    return rare if left >= _LEAST_CLASSES and sum(question.counts[name] for name in rare) <= _RARE_SHARE * question.known else ()


def _rarest_share(question: Question) -> float:
    """Return the share of the rarest class; 1 where there are none."""
    return 1.0 if question.kind == "regression" else question.rarest[1] / max(1, question.known)


def _holdout_days(days: float, rows_a_day: float, rarest: float) -> float:
    """Return the days that judge: a week, more where a week is few rows, an eighth of the table at most, be it a part of a day.

    Where an eighth has hardly any rows of a rare class, a fifth judges: evidence for a model comes from those.
    """
    few = rarest < _RARE and days * rows_a_day * rarest * _HOLDOUT_SHARE < _SURE
    if few and days * rows_a_day * rarest * _LARGEST_HOLDOUT >= _LEAST_POSITIVES:
        return float(f"{days * _LARGEST_HOLDOUT:.3g}")
    most = days * _HOLDOUT_SHARE
    if most < 1:
        return float(f"{most:.3g}")
    return int(min(max(_USUAL_DAYS, np.ceil(_JUDGES / max(rows_a_day, 1e-9))), int(most)))


def words_of_days(days: float) -> str:
    """Return a span as people say it.

    >>> words_of_days(0.125), words_of_days(1.5), words_of_days(7), words_of_days(400.2)
    ('3 hours', '1.5 days', '7 days', '400 days')
    """
    if days * 24 < 1:
        return f"{days * 1440:.3g} minutes"
    return f"{days * 24:.2g} hours" if days < 1 else f"{days:.2g} days" if days < 10 else f"{days:.0f} days"


def _nice(duration_ms: int) -> int:
    return next((nice for nice in _NICE_MS if nice >= duration_ms), -(-duration_ms // DAY_MS) * DAY_MS)
