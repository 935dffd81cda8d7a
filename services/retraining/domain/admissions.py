"""Which recipe's refits go out without being judged again, and which levels were spent on judging: a fold of the lifecycle log."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tidemill.services.retraining.domain.first_stage import REFIT, Tried
from tidemill.shared.models.deployments import Lifecycle
from tidemill.shared.statistics.levels import YEAR_MS

RECIPE, SEARCHED = "recipe", "searched"
"""Details of a candidate's events: its recipe, and whether a search was made for it (`yes`) or waits for the next training (`PUT_OFF`)."""
PUT_OFF = "put off"
NEVER_SEARCHED, SEARCH_IS_PUT_OFF = -1, -2
"""In place of the instant of the last search."""
LEVELS = ("gate_level", "incumbent_level", "reverse_level")
"""Figures of a candidate's events: levels that were spent on the looks which led to it."""


@dataclass(frozen=True, slots=True)
class Admissions:
    """What one model's gate has decided so far. Replay-safe; it lives on journal time.

    A recipe is admitted when a model of it is promoted. It loses that when one is rolled back, until it has passed the gate again.

    Attributes
    ----------
    recipes
        Text by version, of every candidate.
    serving
        The champion's recipe; empty before the first promotion, and for champions of versions that knew no recipes.
    lost
        Recipes of which a model was rolled back.
    searched_ms
        Instant of the last search, `NEVER_SEARCHED`, or `SEARCH_IS_PUT_OFF`: the next training searches.
    spent
        Instant and level of the looks of the last year.
    refits
        Candidates without a recipe's text whose training said that they are refits.
    """

    recipes: Mapping[str, str] = field(default_factory=dict)
    serving: str = ""
    lost: frozenset[str] = frozenset()
    searched_ms: int = NEVER_SEARCHED
    spent: tuple[tuple[int, float], ...] = ()
    refits: frozenset[str] = frozenset()

    @property
    def is_admitted(self) -> bool:
        """Whether refits of the champion's recipe go out after light checks."""
        return bool(self.serving) and self.serving not in self.lost

    def is_refit(self, version: str) -> bool:
        """Whether a version is a fit of the champion's recipe while refits of that go out after light checks."""
        mine = self.recipes.get(version, "")
        return self.is_admitted and mine == self.serving if mine else version in self.refits

    def tried(self, challenger: str, candidate: str) -> Tried:
        """Return whose recipe a challenger's version has; `candidate` is the text of the candidate's."""
        mine = self.recipes.get(challenger, "")
        if not mine:
            return "unknown"
        if mine == self.serving:
            return "champion's"
        return "candidate's" if mine == candidate else "another"

    def deployed(self, event: Mapping[str, Any], before: Lifecycle, after: Lifecycle) -> "Admissions":
        """Return the state after an event that took the lifecycle from one state to another; an ignored one changes nothing."""
        if after.head == before.head:
            return self
        if event["event"] == "registered":
            return self._registered(event)
        if event["event"] == "promoted":
            mine = self.recipes.get(event["version"], "")
            return replace(self, serving=mine, lost=self.lost - {mine})
        if event["event"] == "rolled_back" and before.champion is not None and after.champion is not None:
            bad = self.recipes.get(before.champion.version, "")
            return replace(self, serving=self.recipes.get(after.champion.version, ""), lost=self.lost | {bad})
        return self

    def _registered(self, event: Mapping[str, Any]) -> "Admissions":
        at, details, figures = event["journal_time"], event["details"], event["figures"]
        levels = tuple((at, figures[name]) for name in LEVELS if figures.get(name, 0.0) > 0)
        recent = tuple(look for look in self.spent if look[0] > at - YEAR_MS)
        recipes = {**self.recipes, event["version"]: details.get(RECIPE, "")}
        searched = {"yes": at, PUT_OFF: SEARCH_IS_PUT_OFF}.get(details.get(SEARCHED, ""), self.searched_ms)
        is_refit = not details.get(RECIPE) and details.get("admission") == REFIT
        refits = self.refits | {event["version"]} if is_refit else self.refits
        return replace(self, recipes=recipes, spent=(*recent, *levels), searched_ms=searched, refits=refits)
