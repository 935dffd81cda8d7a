"""Whether the distributions of one model's features have shifted: e-BH over the features, e-LOND over its champion's windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidemill.services.drift.domain.conditions import CALM_LEVEL, Conditions
from tidemill.services.drift.domain.findings import Coordinates, Finding, Kind
from tidemill.services.drift.domain.null_shifts import NullShifts, level
from tidemill.services.drift.domain.shifts import Shift
from tidemill.shared.statistics.eprocess import discoveries

Unharmed = tuple[float, float] | None
"""Estimated loss before and of late where it surely has not risen (`EstimatedLoss.unharmed`)."""
_JUST_BEYOND = 1.0 + 1e-9


@dataclass(slots=True)
class FeatureShifts:
    """Windows of one champion's features held against the windows of its reference.

    Attributes
    ----------
    kind
        Of the findings: the distributions are of features, or of predictions.
    psi
        Bound on the population stability index: below it a shift is no finding, however sure it is.
    null
        How windows of the champion's reference differ.
    looks, found
        Windows of the champion that were looked at, and shifts found in them.
    shown
        Shifts that were told for information only, with the look at which they were.
    severities, ranked
        Of the last window by feature: statistic over bound, and that times the feature's importance. Not part of the state.
    """

    psi: float
    min_rows: int
    kind: Kind = "feature"
    null: NullShifts = field(default_factory=NullShifts)
    looks: int = 0
    discoveries: int = 0
    shown: dict[str, int] = field(default_factory=dict)
    severities: dict[str, float] = field(default_factory=dict)
    ranked: dict[str, float] = field(default_factory=dict)

    def begin(self, null: NullShifts) -> None:
        """Begin anew for another champion."""
        self.null, self.looks, self.discoveries = null, 0, 0
        self.shown.clear()

    def look(
        self,
        at: Coordinates,
        version: str,
        conditions: Conditions,
        shifts: Mapping[str, Shift],
        *,
        importance: Mapping[str, float],
        unharmed: Unharmed,
        tested: bool,
    ) -> list[Finding]:
        """Hold the distributions of a window against the reference's own windows.

        Parameters
        ----------
        importance
            Of features by name; empty where it is not known.
        unharmed
            The estimated loss if it surely has not risen: shifts are then told for information.
        tested
            Whether the window has its length.
        """
        log_e = self.null.log_e(shifts) if tested else {}
        log_e = {name: value for name, value in log_e.items() if shifts[name].rows >= self.min_rows}
        self.severities, self.ranked = {}, {}
        if not log_e:
            return []
        self.looks += 1
        least = level(self.looks, self.discoveries)
        names = list(log_e)
        rejected = discoveries([log_e[name] for name in names], least)
        needed = float(np.log(len(names) / least))
        findings: list[Finding] = []
        for name, is_found in zip(names, rejected.tolist(), strict=True):
            one = shifts[name]
            large = one.psi > self.psi
            # A rejection is one whatever its place in the ranking that e-BH rejects by: in units of the bound it is beyond 1.
            severity = max(0.0, log_e[name] / needed)
            severity = max(severity, _JUST_BEYOND) if is_found and large else min(severity, 1.0)
            self.severities[name] = severity
            if importance:
                self.ranked[name] = severity * importance[name]
            evidence = {"psi": one.psi, "js": one.js, "ks": one.ks, "chi2": one.chi2, "log_e": log_e[name], "rows": float(one.rows)}
            evidence |= {"importance": importance[name]} if importance else {}
            against = f"the data before champion {version}" if self.kind == "feature" else f"what champion {version} answered before"
            told = f"{name} against {against}: population stability index {one.psi:.3f}, largest difference of the"
            told += f" cumulative shares {one.ks:.3f}; windows usually differ less (log e {log_e[name]:.1f})"
            if unharmed is not None and (self.kind, name) not in conditions.active and severity > CALM_LEVEL:
                findings += self._shown(at, conditions.model, name, severity, unharmed, told, evidence)
                continue
            self.shown.pop(name, None)
            findings += conditions.hold(at, self.kind, name, "e_lond", severity, 1.0, told, evidence)
        self.discoveries += len(findings)
        return sorted(findings, key=lambda finding: -self.ranked.get(finding.subject, finding.statistic))

    def _shown(
        self, at: Coordinates, model: str, name: str, severity: float, unharmed: tuple[float, float], told: str, evidence: Mapping[str, float]
    ) -> Sequence[Finding]:
        """Say once, for information, that a distribution has shifted while the answers are estimated to be as good as before."""
        if severity <= 1 or name in self.shown:
            return []
        self.shown[name] = self.looks
        before, now = unharmed
        told += f"; no warning: the estimated loss of its answers is {now:.4f} in the last windows, {before:.4f} before"
        more = {**evidence, "estimated_loss": now, "estimated_loss_before": before}
        return [Finding(model, at, self.kind, name, "e_lond", "info", severity, 1.0, told, more)]

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers; the null belongs to its version."""
        return {"looks": self.looks, "found": self.discoveries, "shown": self.shown}

    def load(self, state: Mapping[str, Any], null: NullShifts) -> None:
        """Take the state of a snapshot."""
        self.looks, self.discoveries, self.shown, self.null = state["looks"], state["found"], dict(state["shown"]), null
