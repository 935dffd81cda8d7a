"""Which classes a training gives its model, where they are learned from the labels."""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.shared.application.plan import ModelPlan
from tidemill.shared.kinds.kind import words
from tidemill.shared.kinds.spelling import MOST_CLASS_BYTES, class_bytes
from tidemill.shared.lake.training_set import TrainingSet, numbered


def choices_of_classes(named: TrainingSet, known: Sequence[str], least: int) -> list[tuple[str, ...]]:
    """Return the classes that a training may have, the most first: those known until now, then the new ones in the order of their names.

    A class is new from `least` labels on. Recipes are judged by fits that know only the past, so a class that came late cannot be part of each of
    them: the second choice are the classes that had as many labels in the first half of the history. Whoever finds too few rows with the first
    takes it. Where all together outgrow a record, those with the most labels are new.

    Parameters
    ----------
    named
        Rows with the names of classes as labels.

    Raises
    ------
    TooFewRowsError
        There are not two classes.
    """
    rows = named.rows
    if not rows.num_rows:
        raise TooFewRowsError("expected labelled rows, found none")
    ends = pc.min_max(rows.column("_request_time"))
    middle = (ends["min"].as_py() + ends["max"].as_py()) // 2
    early = rows.filter(pc.and_(pc.less(rows.column("_request_time"), middle), pc.less(rows.column("_label_time"), middle)))
    choices = []
    for part in (rows, early):
        new = [name for name, count in _counts(part).most_common() if count >= least and name not in known]
        choices.append((*known, *sorted(_that_fit(new, MOST_CLASS_BYTES - class_bytes(known)))))
    counts = _counts(rows)
    if len(choices[0]) < 2:
        counted = words(tuple(f"{name} ({count})" for name, count in counts.most_common()))
        raise TooFewRowsError(f"expected labels of two classes or more with at least {least} of each, found {counted}")
    return [one for one in dict.fromkeys(choices) if len(one) >= 2]


def learned_from(model: ModelPlan, named: TrainingSet) -> list[tuple[ModelPlan, TrainingSet]]:
    """Return a model, and its rows, with the classes that a first training on them would try, the most first.

    Raises
    ------
    TooFewRowsError
        There are not two classes.
    """
    choices = choices_of_classes(named, (), model.settings.training.min_positives)
    return [(model.with_classes(classes), numbered(named, classes)) for classes in choices]


def left_out(named: TrainingSet, classes: Sequence[str]) -> str:
    """Say which classes are none of those of a training, with the number of their labels; empty where there are none."""
    others = [(name, count) for name, count in _counts(named.rows).most_common() if name not in classes]
    return words(tuple(f"{name} ({count})" for name, count in others)) if others else ""


def _that_fit(names: Sequence[str], room_bytes: int) -> Sequence[str]:
    """Return the first names whose probabilities weigh no more than there is room for in a record."""
    ends = accumulate(class_bytes([name]) for name in names)
    return names[: sum(end <= room_bytes for end in ends)]


def _counts(rows: pa.Table) -> Counter[str]:
    counted = rows.column("_label").value_counts().to_pylist()
    return Counter({str(one["values"]): int(one["counts"]) for one in sorted(counted, key=lambda one: str(one["values"]))})
