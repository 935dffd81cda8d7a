"""The distribution of a champion's answers: weather says nothing, a change does; any batches, restart, two champions, several classes."""

import json

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from tidemill.services.drift.domain.answer_shifts import AnswerShifts
from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.feature_shifts import Unharmed
from tidemill.services.drift.domain.findings import Coordinates, Finding
from tidemill.services.drift.domain.rows import MergedCoordinates, PredictionRows
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

ROWS = 300
KINDS: dict[str, Kind] = {"binary": Binary(), "regression": Regression(), "multiclass": Multiclass(("a", "b", "c"))}


def answers(level: float, generator: np.random.Generator) -> PredictionRows:
    """A day's answers: a level of the day, and rows around it."""
    places = np.arange(ROWS)
    logit = level + generator.normal(0, 1, ROWS)
    score = 1 / (1 + np.exp(-logit))
    texts: NDArray[np.object_] = np.full(ROWS, "x", dtype=object)
    nothing = np.full(ROWS, np.nan)
    at = MergedCoordinates(places, places, np.zeros(ROWS, np.int64), places)
    predicted = np.digitize(logit, [-0.7, 0.9]).astype(np.int64)
    scores = pa.nulls(ROWS, pa.map_(pa.string(), pa.float64()))
    none = (nothing,) * 4
    return PredictionRows(at, texts, texts, texts, np.ones(ROWS, np.int64), score, predicted, np.zeros(ROWS, np.int64), scores, *none)


def course(
    kind: Kind,
    seed: int,
    changed: int,
    *,
    end: int = 100,
    champions: tuple[int, ...] = (0,),
    cut: int = 0,
    unharmed: Unharmed = None,
) -> list[tuple[int, Finding]]:
    """Days of answers of champions that begin on some days; from a day on they are higher. Findings with their day."""
    generator = np.random.default_rng(seed)
    one, conditions = AnswerShifts(kind, 0.2, 100), Conditions("m")
    findings: list[tuple[int, Finding]] = []
    for day in range(end):
        if day in champions:
            one.begin()
            conditions.active.clear()
        rows = answers(generator.normal(0, 0.15) + (2.0 if day >= changed else 0.0), generator)
        parts = np.array_split(np.arange(ROWS), 4) if cut else [np.arange(ROWS)]
        for part in parts:
            one.absorb(rows, np.isin(np.arange(ROWS), part))
            if cut and day % cut == 0:
                again = AnswerShifts(kind, 0.2, 100)
                again.load(json.loads(json.dumps(one.snapshot())))
                one = again
        findings += [(day, finding) for finding in one.close(Coordinates(day, 0, day), "v1", day, conditions, unharmed)]
    return findings


@pytest.mark.parametrize("name", KINDS)
def test_a_change_of_the_answers_warns_within_the_window_and_weather_does_not(name: str) -> None:
    assert not course(KINDS[name], 0, 10**6)
    findings = course(KINDS[name], 0, 90)
    assert [(one.kind, one.subject, one.severity) for _, one in findings] == [
        ("prediction", "classes" if name == "multiclass" else "scores", "warning")
    ]
    assert 90 <= findings[0][0] < 97 and findings[0][1].statistic > 1 and {"psi", "js", "ks", "chi2", "log_e"} <= findings[0][1].evidence.keys()
    assert "what champion v1 answered before" in findings[0][1].detail


def test_a_champion_that_has_answered_for_longer_than_windows_are_kept_is_tested_on() -> None:
    """Ninety windows are kept: when there were as many, none was taken for a new one any more."""
    findings = course(KINDS["binary"], 0, 130, end=137)
    assert [one.subject for _, one in findings] == ["scores"] and 130 <= findings[0][0]


def test_distances_are_those_of_the_rows() -> None:
    """Of three classes: every answer of the window against every one before it, by NumPy and SciPy."""
    generator = np.random.default_rng(3)
    one, days = AnswerShifts(KINDS["multiclass"], 0.2, 100), []
    one.begin()
    for day in range(25):
        rows = answers(generator.normal(0, 0.15), generator)
        one.absorb(rows, np.ones(ROWS, np.bool_))
        days.append(np.bincount(rows.predicted, minlength=3))
        one.close(Coordinates(day, 0, day), "v1", day, Conditions("m"), None)
    before, now = np.sum(days[:-7], axis=0), np.sum(days[-7:], axis=0)
    assert one.shift is not None
    first, second = before / before.sum(), now / now.sum()
    assert one.shift.ks == pytest.approx(np.abs(first - second).max())
    assert one.shift.psi == pytest.approx(((second - first) * np.log(second / first)).sum(), rel=0.02)
    assert one.shift.chi2 == pytest.approx(chi2_contingency([first, second], correction=False).statistic, rel=0.02)


def test_batches_and_restarts_change_nothing() -> None:
    assert course(KINDS["binary"], 1, 90, cut=20) == course(KINDS["binary"], 1, 90)


def test_a_new_champion_is_held_against_its_own_answers_and_what_is_known_of_windows_stays() -> None:
    assert not course(KINDS["binary"], 2, 60, champions=(0, 60)), "another model answers otherwise: that is no shift"
    # Three weeks after it began it is tested by the windows of the one before.
    findings = course(KINDS["binary"], 2, 84, champions=(0, 60), end=100)
    assert [one.subject for _, one in findings] == ["scores"] and 84 <= findings[0][0] < 91


def test_an_estimate_that_no_loss_has_come_of_it_mutes_the_warning() -> None:
    findings = course(KINDS["binary"], 0, 90, unharmed=(0.2, 0.2))
    assert [(one.kind, one.severity) for _, one in findings] == [("prediction", "info")] and "no warning" in findings[0][1].detail
