"""Faults planted into a generated stream: the right incident each time, and none where nothing is wrong."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.long_forms import shortened
from tests.planted_faults import DAY, EXPECTED, FAULT, PROMOTED, Table, incidents, judged, said_of
from tidemill.services.drift.domain.findings import Finding, HealthRecord

Bools = NDArray[np.bool_]


@pytest.mark.parametrize("seed", shortened([0, 1], 1))
@pytest.mark.parametrize("name", EXPECTED)
def test_a_planted_fault_is_the_incident_that_it_is(name: str, seed: int) -> None:
    fault, expected = EXPECTED[name]
    missed, false = judged(fault, expected, seed)
    assert not missed
    assert len(false) <= (1 if expected else 0), false


def test_a_factor_that_no_day_shows_is_shown_by_its_week() -> None:
    """Here the level of no day of 400 rows lies within four per cent of the factor's."""
    missed, false = judged(*EXPECTED["units"], seed=16)
    assert not missed and not false
    findings = [one for one in said_of(EXPECTED["units"][0], 16) if isinstance(one, Finding) and one.kind == "units"]
    assert [(one.subject, one.severity) for one in findings] == [("amount", "warning")] and findings[0].at.time_ms >= (FAULT + 7) * DAY
    assert "miles to kilometres" in findings[0].detail and abs(findings[0].evidence["factor"] / 1.609344 - 1) < 0.08


def test_other_units_are_named_by_a_champion_that_is_promoted_two_days_after_them() -> None:
    """Neither of these two days shows the factor: what the second champion is held against holds them."""
    said = said_of(EXPECTED["units"][0], 2, promoted=(PROMOTED, FAULT + 2))
    findings = [one for one in said if isinstance(one, Finding) and one.kind == "units"]
    assert [one.subject for one in findings] == ["amount"]
    assert "before champion v2" in findings[0].detail and "miles to kilometres" in findings[0].detail


def test_what_breaks_on_the_day_of_a_promotion_is_told_by_the_new_champion() -> None:
    """The day before knew neither, and the new champion is held against days that are over."""

    def fault(rows: Table, after: Bools, generator: np.random.Generator) -> None:
        EXPECTED["category"][0](rows, after, generator)
        rows.columns["late_mean"][after & (generator.random(len(after)) < 0.2)] = 9.0

    said = said_of(fault, 0, promoted=(PROMOTED, FAULT + 0.8))
    told = {(one.kind, one.subject): one for one in said if isinstance(one, Finding) and one.kind in ("category", "range")}
    assert set(told) == {("category", "country"), ("range", "late_mean")}
    assert all(one.at.time_ms == (FAULT + 1) * DAY and "before champion v2" in one.detail for one in told.values())


def test_a_stream_that_ends_within_a_day_brings_no_other_number_of_rows() -> None:
    said = [one.fields for one in incidents(EXPECTED["ends"][0], 0) if one.fields["root"] == "stream:orders"]
    first = said[0]
    assert (first["kinds"], first["severity"], first["opened"]) == (["freshness"], "warning", (FAULT + 1) * DAY)
    assert "nothing from 07:00 of the window on" in first["detail"]
    assert "volume" in said[-1]["kinds"], "a stream without a row in whole windows has lost its volume"


@pytest.mark.parametrize("name", ["flips", "abrupt"])
def test_a_loss_is_not_over_while_the_model_errs(name: str) -> None:
    said = [one.fields for one in incidents(EXPECTED[name][0], 0) if one.fields["root"] == "model:m" and "loss" in one.fields["kinds"]]
    assert said and {one["change"] for one in said} <= {"opened", "joined", "worse"}, "no label is right again before the stream ends"


def test_a_shift_without_an_estimated_loss_is_shown_and_warns_nobody() -> None:
    findings = [one for one in said_of(EXPECTED["idle"][0], 0) if isinstance(one, Finding) and one.subject == "weight"]
    assert [(one.kind, one.severity) for one in findings] == [("feature", "info")] and "no warning" in findings[0].detail
    # The same column broken: nothing mutes that, whatever the estimate says.
    findings = [one for one in said_of(EXPECTED["null"][0], 0) if isinstance(one, Finding) and one.subject == "weight" and one.kind == "missing"]
    assert [one.severity for one in findings] == ["alarm"]


def test_a_shift_mutes_where_a_regression_expects_no_larger_errors_and_warns_where_it_does() -> None:
    """The same shift of the same column: errors do not depend on it, or grow with it."""
    for error_of, severity in (
        (lambda rows: np.full(len(rows.day), 2.0), "info"),
        (lambda rows: np.maximum(0.2, 2 + 0.06 * (np.nan_to_num(rows.columns["weight"], nan=50.0) - 50)), "warning"),
    ):
        said = said_of(EXPECTED["idle"][0], 0, error_of=error_of)
        findings = [one for one in said if isinstance(one, Finding) and one.subject == "weight"]
        assert [(one.kind, one.severity) for one in findings] == [("feature", severity)]
        assert ("estimated_loss" in findings[0].evidence) == (severity == "info")
        days = [one.metrics for one in said if isinstance(one, HealthRecord) and "estimated_mean_absolute_error" in one.metrics]
        assert len(days) > 15
        realised, estimated = (np.mean([one[f"{name}mean_absolute_error"] for one in days]) for name in ("", "estimated_"))
        assert estimated == pytest.approx(realised, rel=0.03)
    # Broken values are told whatever the estimate says.
    said = said_of(EXPECTED["null"][0], 0, error_of=lambda rows: np.full(len(rows.day), 2.0))
    assert [one.severity for one in said if isinstance(one, Finding) and (one.subject, one.kind) == ("weight", "missing")] == ["alarm"]
