"""The classes of each model: those declared, or those that its versions have answered with so far."""

import json
from collections.abc import Collection, Mapping

import pyarrow as pa

from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.served_scores import classes_answered


class KnownClasses:
    """Kinds by model; those that learn their classes follow the probabilities of their answers.

    A version has the classes of those before it, in their order, and perhaps more at the end. So names in the order of their first answer are in the
    order of the latest version, whichever answers came first, and a class keeps its number.

    Parameters
    ----------
    kinds
        By model, of a model that learns its classes one without classes.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        # Of what a version did not know nothing was served, not even a zero.
        self._kinds = {name: Multiclass(kind.classes) if kind.is_learned else kind for name, kind in kinds.items()}
        self.learning = frozenset(name for name, kind in kinds.items() if kind.is_learned)

    @property
    def models(self) -> Collection[str]:
        """Names of the models."""
        return self._kinds.keys()

    def of(self, model: str) -> Kind:
        """Return a model's kind with the classes that are known now."""
        return self._kinds[model]

    def follow(self, model: str, scores: pa.Array) -> None:
        """Take note of the classes of answers: a map of class name to probability each, null where no class was answered."""
        if model not in self.learning:
            return
        known = self._kinds[model].classes
        new = [name for name in classes_answered(scores) if name not in known]
        if new:
            self._kinds[model] = Multiclass((*known, *new))

    def snapshot(self) -> bytes:
        """Return the learned classes by model."""
        return json.dumps({name: list(self._kinds[name].classes) for name in sorted(self.learning)}).encode()

    def load(self, state: bytes) -> None:
        """Take up the learned classes; those of models that learn none any more are passed over."""
        for name, classes in json.loads(state).items():
            if name in self.learning:
                self._kinds[name] = Multiclass(tuple(classes))
