"""One configuration of an experiment: what is trained, of which columns, on how much history."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Configuration:
    """What distinguishes one trial from the others.

    Attributes
    ----------
    family, parameters
        The model family and its hyperparameters.
    window_days
        Days of history to learn from; 0: all.
    feature_set, columns
        Name of the set, and the columns of the vector that it means.
    """

    family: str
    window_days: int
    feature_set: str
    columns: tuple[str, ...]
    parameters: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits that follow from what is trained; the name of the feature set is none of it."""
        said = asdict(self)
        del said["feature_set"]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def words(self) -> str:
        """One line for people."""
        window = f"{self.window_days} days" if self.window_days else "all history"
        settings = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.parameters.items())
        return f"{self.family} ({settings})" * bool(settings) + self.family * (not settings) + f", {window}, {self.feature_set}"

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Configuration":
        """Return what `asdict` wrote down."""
        return cls(said["family"], said["window_days"], said["feature_set"], tuple(said["columns"]), dict(said["parameters"]))
