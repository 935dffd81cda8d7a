"""Whether the labels at which a first model is asked for can be enough for it, by what the application declares."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tidemill.shared.application.model import Model
from tidemill.shared.kinds.kind import Kind


@dataclass(frozen=True, slots=True)
class FirstLabels:
    """Labels that a first training needs, in expectation and at least: classes come as often as the fallback says, or equally often.

    Attributes
    ----------
    learning, validation, judging
        Labels of each part of the time.
    rarest
        Share of the rarest class that is used; 1 for a regression.
    """

    learning: int
    validation: int
    judging: int
    rarest: float

    @classmethod
    def of(cls, model: Model, kind: Kind) -> "FirstLabels":
        """Read a model's policies."""
        shares = sorted(_shares(model, kind))
        each = model.training.min_positives
        # Of several classes, validation needs two only.
        all_classes, two = (math.ceil(each / share) for share in (shares[0], shares[-2 if len(shares) > 1 else 0]))
        return cls(max(model.training.min_rows, all_classes), two, max(model.gate.min_rows, all_classes), shares[0])

    @property
    def total(self) -> int:
        """Labels of all parts."""
        return self.learning + self.validation + self.judging


def first_labels_warning(name: str, model: Model, kind: Kind) -> str:
    """Say what a first training lacks when `retraining.bootstrap_labels` have come, and what to change; empty where they may do.

    It is refused then, and asked for again with a quarter more labels each time.
    """
    needed, asked_for, each = FirstLabels.of(model, kind), model.retraining.bootstrap_labels, model.training.min_positives
    if needed.total <= asked_for:
        return ""
    classes = (
        ""
        if kind.name == "regression"
        else f", {each} of each class in each of them (training.min_positives) where the rarest has {needed.rarest:.2%}"
    )
    known = " (fallback.default)" if classes and _is_known(model) else ""
    return (
        f"model {name}: a first training is asked for at {asked_for:,} labels and needs about {needed.total:,}: {needed.learning:,} to learn from"
        f" (training.min_rows), {needed.validation:,} to validate on, {needed.judging:,} to be judged on (gate.min_rows){classes}{known}."
        f" Set retraining.bootstrap_labels to {needed.total:,}, or lower what is needed."
    )


def _is_known(model: Model) -> bool:
    """Whether the fallback says how often each class comes."""
    default = model.fallback.default
    return isinstance(default, Mapping) or (model.kind == "binary" and isinstance(default, int | float) and 0 < default < 1)


def _shares(model: Model, kind: Kind) -> list[float]:
    if kind.name == "regression":
        return [1.0]
    default, count = model.fallback.default, 2 if kind.name == "binary" else max(2, len(kind.classes))
    if not _is_known(model):
        return [1 / count] * count
    if isinstance(default, Mapping):
        total = sum(default.values())
        return [share / total for share in default.values() if share > 0]
    positives = float(default)  # type: ignore[arg-type]  # `_is_known`
    return [positives, 1 - positives]
