"""Whether a day's values are broken, feature by feature: held against the days of the champion's reference."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.data_quality import QualityBounds, outside_shares
from tidemill.services.drift.domain.findings import Coordinates, Finding, Kind, Severity
from tidemill.services.drift.domain.measured import has_units
from tidemill.services.drift.domain.scale import Scale, UsualScale, levels_of, scales, spread_of
from tidemill.services.drift.domain.shifts import Summary
from tidemill.shared.statistics.histogram import Tally

_GONE = 0.5


@dataclass(frozen=True, slots=True)
class BrokenValues:
    """Missing values, values never seen and the scale of one champion's features, against what was usual in its reference.

    Attributes
    ----------
    scales
        Of numbers that have any values.
    min_rows
        Vectors that a day needs before its features are judged.
    missing_shift
        No bound on the change of the share of missing values is lower.
    unbounded
        Features of which only missing values are told.
    """

    version: str
    reference: Mapping[str, Summary]
    usual: Mapping[str, QualityBounds]
    scales: Mapping[str, UsualScale]
    min_rows: int
    missing_shift: float
    unbounded: Set[str] = frozenset()

    def look(
        self, at: Coordinates, conditions: Conditions, day: Mapping[str, Summary], window: Mapping[str, Summary], ended: Set[str]
    ) -> list[Finding]:
        """Hold a day's missing and unknown values, and its scale, against the days of the reference.

        Days of a few hundred rows have a level of their own, which hides a factor of units; the window of a week that ends with the day shows it.

        Parameters
        ----------
        window
            Summaries of the window that ends with the day; empty before it has its length.
        ended
            Features made of streams that had ended while requests came: that they come empty is worth a warning and no alarm.
        """
        judged = {name: day[name] for name, one in self.reference.items() if one.rows and day[name].rows >= self.min_rows}
        levels = {name: one.levels for name, one in self.scales.items()}
        outside, today = outside_shares(self.reference, judged), levels_of(judged)
        unsure = {name: one.factor_unsure for name, one in self.scales.items()}
        factors, weeks = scales(levels, today), scales(levels, levels_of({name: window[name] for name in judged if name in window}), unsure)
        findings: list[Finding] = []
        for name, one in judged.items():
            told = (factors.get(name), weeks.get(name), spread_of(today[name])) if name in today else (None, None, 0.0)
            findings += self._feature(at, conditions, name, one, outside[name], *told, has_ended=name in ended)
        return findings

    def _feature(
        self,
        at: Coordinates,
        conditions: Conditions,
        name: str,
        day: Summary,
        outside: float,
        factor: Scale | None,
        week: Scale | None,
        spread: float,
        *,
        has_ended: bool,
    ) -> Sequence[Finding]:
        """Hold one feature against what was usual: a day, and the scale of a week."""
        missing, usual, before = day.missing_share, self.usual[name], self.reference[name].missing_share
        distance, missing_bound = usual.missing(missing, day.rows, self.missing_shift)
        gone: Severity = "alarm" if distance > _GONE and missing > before and not has_ended else "warning"
        findings: list[Finding] = []

        def hold(kind: Kind, detector: str, statistic: float, bound: float, told: str, severity: Severity = "warning", **more: float) -> None:
            evidence = {"missing": missing, "missing_reference": before, "outside": outside, "rows": float(day.rows), **more}
            text = f"{name} against the data before champion {self.version}: {told}"
            findings.extend(conditions.hold(at, kind, name, detector, statistic, bound, text, evidence, severity))

        told = f"{missing:.1%} missing, usually {usual.missing_low:.1%} to {usual.missing_high:.1%}"
        hold("missing", "missing_share", distance, missing_bound, told, gone)
        if name in self.unbounded:
            return findings
        if factor is not None:
            scale, is_measured = self.scales[name], has_units(self.reference[name], day)
            bound = scale.factor_log
            is_other = [
                one is not None and is_measured and bool(one.units) and one.factor_log > bound and scale.is_scaled(one, spread)
                for one in (factor, week)
            ]
            # A day says it for sure, a week is less so: a level may have moved by about as much.
            severity: Severity
            told_by, severity = (week, "warning") if week is not None and is_other == [False, True] else (factor, "alarm")
            statistic = told_by.factor_log if any(is_other) else 0.0
            told = f"values are {told_by.factor:.4g} times what they were, as after a change of {told_by.units}"
            hold("units", "scale_factor", statistic, bound, told, severity, factor=told_by.factor)
        kind: Kind = "category" if isinstance(day, Tally) else "range"
        hold(kind, "outside_share", outside, usual.outside, f"{outside:.1%} of the values outside of what was seen, bound {usual.outside:.1%}")
        return findings
