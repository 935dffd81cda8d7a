"""Conditions of one model that last: given as a finding when they begin, and again only after they have been quiet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.services.drift.domain.findings import Coordinates, Finding, Kind, Severity, condition_of
from tidemill.services.drift.domain.incident import CALM_WINDOWS

CALM_LEVEL = 0.5
"""Statistic over bound below which a window is quiet."""


@dataclass(slots=True)
class Conditions:
    """Which conditions have begun, and how far each one was from its bound in the window that is being closed.

    A condition that lasts (a shifted feature, an AUC below its bound) is a finding when it begins, and again only after it has been below half of
    its bound for three windows: PSI is above its bound on nearly every day of a real year.

    Attributes
    ----------
    active
        Conditions that have begun, with the quiet windows in a row of each.
    levels
        Statistic over bound of every condition that was measured in the window that is being closed; not part of the state.
    """

    model: str
    active: dict[tuple[str, str], int] = field(default_factory=dict)
    levels: dict[tuple[str, str], float] = field(default_factory=dict)

    def hold(
        self,
        at: Coordinates,
        kind: Kind,
        name: str,
        detector: str,
        statistic: float,
        bound: float,
        detail: str,
        evidence: Mapping[str, float],
        severity: Severity = "warning",
        part: str = "",
    ) -> Sequence[Finding]:
        """Return the finding of a condition, of the whole or of a slice, that begins with this window."""
        if not self.begins(kind, condition_of(name, part), statistic, bound):
            return []
        return [Finding(self.model, at, kind, name, detector, severity, statistic, bound, detail, evidence, part)]

    def begins(self, kind: Kind, name: str, statistic: float, bound: float) -> bool:
        """Whether a condition begins with this window; one that lasts ends with the third window below half of its bound."""
        key, level = (kind, name), statistic / bound
        self.levels[key] = level
        if key in self.active:
            self.active[key] = self.active[key] + 1 if level < CALM_LEVEL else 0
            if self.active[key] >= CALM_WINDOWS:
                del self.active[key]
            return False
        if level > 1:
            self.active[key] = 0
            return True
        return False

    def snapshot(self) -> list[list[Any]]:
        """State as plain lists, texts and numbers."""
        return sorted([*key, windows] for key, windows in self.active.items())

    def load(self, state: Sequence[Sequence[Any]]) -> None:
        """Take the state of a snapshot."""
        self.active = {(kind, name): windows for kind, name, windows in state}
