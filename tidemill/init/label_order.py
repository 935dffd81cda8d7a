"""What the order of the rows does to the labels: those that come after the table has ended, and classes that only later rows have."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tidemill.init.policies import Policies
from tidemill.init.question import Question
from tidemill.init.timeline import Timeline

_MOST_LATE = 0.5
_FAR_FEWER = 10
_SORTED = 0.98
_LEAST_SORTED = 50
_NAMED = 3


def label_order_warnings(question: Question, times: Timeline, policies: Policies) -> list[str]:
    """Say what keeps a model from being learned although the table has labels enough."""
    known = question.labels.is_not_null().to_numpy()
    if not known.any():
        return []
    return [*_late(known, times), *(_sorted_numbers(question, times) if question.kind == "regression" else _later_classes(question, times, policies))]


def _late(known: NDArray[np.bool_], times: Timeline) -> list[str]:
    after = int((times.labelled_ms[known] > times.asked_ms[-1] + 1).sum())
    count = int(known.sum())
    if after <= _MOST_LATE * count:
        return []
    which = "all labels" if after == count else f"the labels of {after:,} of {count:,} rows"
    return [f"{which} come after the last row of the table: nothing can be learned from them before it ends; is the delay of the labels right?"]


def _later_classes(question: Question, times: Timeline, policies: Policies) -> list[str]:
    """Name the classes that the first model would see far less often than the table has them."""
    labels = question.labels.to_numpy()
    known = np.flatnonzero(~np.isnan(labels))
    first = known[np.argsort(times.labelled_ms[known], kind="stable")][: policies.bootstrap_labels]
    if len(first) == len(known):
        return []
    said = []
    for index, name in enumerate(question.classes):
        here, all_of_it = int((labels[first] == index).sum()), int((labels[known] == index).sum())
        if here < policies.min_positives and here * _FAR_FEWER < all_of_it * len(first) / len(known):
            said.append(f"the class {name!r} has {here:,} of the first {len(first):,} labels and {all_of_it:,} of all {len(known):,}")
    return [f"{_joined(said)}: are the rows sorted by the label? A first model waits until each class has rows enough"] if said else []


def _sorted_numbers(question: Question, times: Timeline) -> list[str]:
    numbers = question.labels.drop_nulls()
    if times.step_ms is None or len(numbers) < _LEAST_SORTED or numbers.n_unique() < _LEAST_SORTED:
        return []
    likeness = float(np.corrcoef(numbers.rank().to_numpy(), np.arange(len(numbers)))[0, 1])
    if abs(likeness) < _SORTED:
        return []
    way = "rises" if likeness > 0 else "falls"
    return [f"the label {way} from row to row: are the rows sorted by it? The row number is time here, and a model is judged on rows that come later"]


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(parts[:_NAMED]) + (f"; and {len(parts) - _NAMED} more" if len(parts) > _NAMED else "")
