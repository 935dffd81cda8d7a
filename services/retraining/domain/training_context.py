"""What a training starts from, and the candidate that it puts forward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import Examples, Split
from tidemill.services.retraining.domain.kept_answers import FitAnswers, anew
from tidemill.services.retraining.domain.recipe import Recipe
from tidemill.services.retraining.domain.steps import TrainingObserver, nobody
from tidemill.services.retraining.domain.training import fit_at
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.shared.application.model import Model
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.artifacts import Artifact


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """What a training has before it.

    Attributes
    ----------
    model, version, settings, kind
        Whose training it is.
    examples
        Labelled rows, n of them.
    served : shape (n,) or (n, K)
        What the champion of the time answered to each; NaN where the fallback did.
    features
        Digest of the features (`features_digest`).
    end_ms, horizon_ms
        The cut, before which everything was known, and the label horizon.
    incumbent, is_admitted
        Text of the champion's recipe, empty when unknown, and whether its refits go out without being judged.
    is_searched
        Whether another recipe is looked for although one is admitted.
    spent
        Instant and level of the looks before.
    told
        Of each step.
    kept
        Answers of fits that an attempt before has made.
    """

    model: str
    version: str
    settings: Model
    kind: Kind
    examples: Examples
    served: NDArray[np.float64]
    features: str
    end_ms: int
    horizon_ms: int
    incumbent: str = ""
    is_admitted: bool = False
    is_searched: bool = True
    spent: tuple[tuple[int, float], ...] = ()
    told: TrainingObserver = nobody
    kept: FitAnswers = anew

    def split(self) -> Split:
        """Cut time for the gate of recipes: its part is `gate.span`, or the last third of the history where that is shorter, in whole blocks."""
        gate, training = self.settings.gate, self.settings.training
        end = self.end_ms - self.horizon_ms
        history = end - int(self.examples.request_ms.min(initial=end))
        blocks = max(1, min(gate.span, history // 3) // gate.block)
        return Split.of(self.end_ms, training.holdout_days, self.horizon_ms, blocks * gate.block)

    def blocks(self, rows: Examples, split: Split) -> NDArray[np.int64]:
        """Return the number of each row's block; the last one ends where the gate's part does."""
        return (rows.request_ms - split.gate_end) // self.settings.gate.block

    def fit(self, split: Split, at_ms: int, recipe: Recipe, threshold: float, details: Mapping[str, str] | None = None) -> Artifact:
        """Fit a recipe on what was known at an instant."""
        training = self.settings.training
        return fit_at(self.examples, split, at_ms, recipe.parameters, threshold, self.model, self.version, training, self.kind, details)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate, and what was found about it.

    Attributes
    ----------
    artifact
        What would serve: learned from everything known.
    figures, details
        Of everything that was looked at on the way, recipes that were refused included (`other_...`).
    split
        How time was cut.
    trials
        Of the search; none where there was none.
    """

    artifact: Artifact
    recipe: Recipe
    verdict: GateVerdict
    figures: Mapping[str, float]
    details: Mapping[str, str]
    spent: tuple[tuple[int, float], ...]
    split: Split
    trials: Sequence[Mapping[str, Any]] = ()
