"""A recipe: everything that a model is made by except the rows, so that what is judged once can be made again on newer rows."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """Family, window of history, hyperparameters and features; its rule of refitting is: on everything known, at every trigger.

    Attributes
    ----------
    parameters
        `family`, `window_days` (0: all history) and the family's own.
    features
        Digest of the features' names and definitions: a feature that means something else makes another recipe.
    """

    parameters: Mapping[str, Any]
    features: str

    @property
    def text(self) -> str:
        """The recipe as it stands in the lifecycle log: equal recipes have equal texts."""
        return json.dumps({"features": self.features, "parameters": dict(self.parameters)}, sort_keys=True, separators=(",", ":"))

    @property
    def name(self) -> str:
        """Short name for messages.

        >>> Recipe({"family": "lightgbm", "window_days": 60}, "ab").name
        'lightgbm of 60 days (911ea8)'
        """
        days = self.parameters["window_days"]
        return f"{self.parameters['family']} of {f'{days} days' if days else 'all history'} ({hashlib.sha256(self.text.encode()).hexdigest()[:6]})"

    @classmethod
    def of(cls, text: str, features: str) -> "Recipe | None":
        """Read a recipe's text; None for an empty one, and for one over other features than these."""
        if not text:
            return None
        read = json.loads(text)
        return cls(read["parameters"], read["features"]) if read["features"] == features else None


def features_digest(features: Mapping[str, str]) -> str:
    """Return the digest of features: definition by name, in the model's order."""
    return hashlib.sha256(json.dumps(list(features.items())).encode()).hexdigest()[:16]
