"""What a search has computed before something ended it: the answers of its fits, by everything that they depend on."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from tidemill.services.retraining.domain.families.family import Scores
from tidemill.services.retraining.domain.stretches import LearningWindow
from tidemill.shared.kinds.kind import Kind

FitAnswers = Callable[[Callable[[], str], Callable[[], Scores]], Scores]
"""Returns answers, given what makes their identity and what makes them anew."""


def anew(identity: Callable[[], str], make: Callable[[], Scores]) -> Scores:
    """Keep nothing: make the answers."""
    return make()


def identity_of(window: LearningWindow, kind: Kind, parameters: Mapping[str, Any], seed: int, class_weight: str) -> str:
    """Return the digest of everything that the answers of one fit follow from, but for the code.

    Whatever a training is asked to do, equal identities mean equal answers; so nothing has to be forgotten when a request changes.
    """
    digest = hashlib.sha256(json.dumps([kind.name, list(kind.classes), dict(parameters), seed, class_weight], sort_keys=True).encode())
    for values in (window.matrix, window.labels, window.weights, window.asked):
        digest.update(f"{values.dtype}{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()
