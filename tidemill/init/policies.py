"""Policies that fit the table: when there are labels enough for a first model, what it is judged on, how often it may be trained."""

from dataclasses import dataclass

import numpy as np

from tidemill.init.question import Question
from tidemill.init.timeline import DAY_MS, Timeline, words
from tidemill.shared.application.values import UNITS_MS

_BOOTSTRAP_SHARE = 0.4
_MOST_BOOTSTRAP = 5_000
_HOLDOUT_SHARE = 0.12
_LEAST_DAYS, _USUAL_DAYS = 3, 7
_JUDGES = 2_000
_PARTS_OF_A_TRAINING = 4
_POSITIVES = 5
_LEAST_POSITIVES = 3
_LEAST_GATE_ROWS = 20
_OLD_MS = 60 * DAY_MS
_LEAST_DELAY_MS = DAY_MS
_NICE_MS = tuple(count * UNITS_MS["h"] for count in (24, 36, 48)) + tuple(
    count * DAY_MS for count in (3, 4, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 365)
)


@dataclass(frozen=True, slots=True)
class Policies:
    """Numbers of the application file, and why they are so.

    Attributes
    ----------
    short
        What the table is too short for; empty when it will do.
    """

    bootstrap_labels: int
    holdout_days: int
    min_rows: int
    min_positives: int
    gate_min_rows: int
    windows_days: tuple[int, ...]
    trials: int
    cool_down: str
    schedule: str | None
    budget_per_30d: int
    max_delay: str
    max_delay_ms: int
    short: tuple[str, ...]


def policies(question: Question, times: Timeline, now_ms: int) -> Policies:
    """Scale the policies: of 1,000 rows the first 400 labels train, and two stretches of an eighth judge."""
    known, days = question.known, times.span_ms / DAY_MS
    rows_a_day = known / max(days, 1e-9)
    short = []
    if days < _LEAST_DAYS * _PARTS_OF_A_TRAINING:
        short.append(
            f"the table spans {words_of_days(days)}, and a model is judged over at least {_LEAST_DAYS} days that it has not learned from: none will"
            " be promoted from this table alone; without --time the row number is time, and it will"
        )
    holdout = _holdout_days(days, rows_a_day)
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
        share = count / max(1, known)
        in_holdout = share * judged
        positives = int(np.clip(in_holdout // 2, _LEAST_POSITIVES, 10))
        if in_holdout < _LEAST_POSITIVES or share * bootstrap < _PARTS_OF_A_TRAINING * _LEAST_POSITIVES:
            enough = int(np.ceil(_PARTS_OF_A_TRAINING * _LEAST_POSITIVES * 2 / max(share, 1e-9)))
            if enough > known:
                short.append(
                    f"the class {name!r} has {count:,} rows in {known:,}: a first model needs about {enough:,} labels at this share, so none is asked"
                    f" for before (retraining.bootstrap_labels)"
                )
            bootstrap = max(bootstrap, enough)
            positives = _LEAST_POSITIVES
    cool_down = _nice(times.span_ms // 10)
    max_delay_ms = _nice(int(delays.max() * 1.2) if len(delays) else 0)
    ended = now_ms - int(times.asked_ms[-1]) > _OLD_MS
    cool_days = max(1, cool_down // DAY_MS)
    return Policies(
        bootstrap_labels=bootstrap,
        holdout_days=holdout,
        min_rows=int(np.clip(bootstrap * 0.25, 10, 1_000)),
        min_positives=positives,
        gate_min_rows=int(np.clip(judged * 0.5, _LEAST_GATE_ROWS, 500)),
        windows_days=(0,) if days < 180 else (0, max(30, round(days / 4))),
        trials=6,
        cool_down=words(cool_down),
        schedule=None if ended else words(_nice(max(2 * cool_down, times.span_ms // 4))),
        budget_per_30d=int(np.clip(30 // cool_days, 1, 10)),
        max_delay=words(max_delay_ms),
        max_delay_ms=max_delay_ms,
        short=tuple(short),
    )


def _holdout_days(days: float, rows_a_day: float) -> int:
    """Return the days that judge: a week, more where a week is few rows, an eighth of the table at most."""
    most = int(days * _HOLDOUT_SHARE)
    return int(np.clip(max(_USUAL_DAYS, np.ceil(_JUDGES / max(rows_a_day, 1e-9))), min(_LEAST_DAYS, max(1, most)), max(1, most)))


def words_of_days(days: float) -> str:
    """Return a span as people say it.

    >>> words_of_days(0.125), words_of_days(1.5), words_of_days(400)
    ('3.0 hours', '1.5 days', '400 days')
    """
    if days < 1:
        return f"{days * 24:.1f} hours"
    return f"{days:.1f} days" if days < 10 else f"{days:.0f} days"


def _nice(duration_ms: int) -> int:
    return next((nice for nice in _NICE_MS if nice >= duration_ms), -(-duration_ms // DAY_MS) * DAY_MS)
