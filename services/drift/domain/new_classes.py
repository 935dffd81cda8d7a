"""Where models that learn their classes first answer with new ones."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from tidemill.services.drift.domain.rows import OutcomeRows, PredictionRows
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.served_scores import classes_answered


def new_classes(kinds: Mapping[str, Kind], predictions: PredictionRows | None, outcomes: OutcomeRows | None) -> dict[int, dict[str, tuple[str, ...]]]:
    """Return all classes of models that learn them, by the places in merge order at which an answer first has more than the answers before it.

    Answers are read and not the lifecycle log, as for champions: they are in journal order. What a challenger says in shadow comes with outcomes.

    Parameters
    ----------
    kinds
        By model, with the classes that are known.
    """
    growths: dict[int, dict[str, tuple[str, ...]]] = {}
    learning = {model: kind.classes for model, kind in kinds.items() if kind.is_learned}
    answers = [] if predictions is None else [(predictions.at.place, predictions.model, predictions.scores)]
    if outcomes is not None and outcomes.pairs is not None:
        answers.append((outcomes.at.place, outcomes.model, outcomes.pairs.scores))
    for model, known in learning.items():
        named: list[tuple[int, list[str]]] = []
        for place, models, scores in answers:
            rows = np.flatnonzero(models == model)
            own = scores.take(pa.array(rows))
            if not set(classes_answered(own)).issubset(known):
                named += [(int(place[row]), classes_answered(own.slice(i, 1))) for i, row in enumerate(rows.tolist())]
        for at, names in sorted(named, key=lambda one: one[0]):
            if more := tuple(name for name in names if name not in known):
                known = (*known, *more)
                growths.setdefault(at, {})[model] = known
    return growths
