"""The model families that an application may name, and which questions each can learn."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator

_CLASSES = ("binary", "multiclass")
_ALL = (*_CLASSES, "regression")

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "logistic_regression": _CLASSES,
    "ridge_regression": ("regression",),
    "lightgbm": _ALL,
    "hist_gradient_boosting": _ALL,
    "random_forest": _ALL,
    "extra_trees": _ALL,
}
"""Kinds by family. Each is a module of this name in `tidemill.services.retraining.domain.families`."""

_SEARCHED = ("logistic_regression", "ridge_regression", "lightgbm")
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def supports(family: str, kind: str) -> bool:
    """Whether a family can learn a kind of question; one of the application's own is asked when it is there."""
    return is_own(family) or kind in FAMILIES.get(family, ())


def is_own(family: str) -> bool:
    """Whether it is a factory of the application's own, by import path.

    >>> is_own("my_models:steps"), is_own("lightgbm")
    (True, False)
    """
    return _IMPORT_PATH.fullmatch(family) is not None


def families_of(chosen: Sequence[str], kind: str) -> tuple[str, ...]:
    """Return what is searched: what was chosen, or else a linear model and boosted trees of the kind.

    >>> families_of((), "regression")
    ('ridge_regression', 'lightgbm')
    """
    return tuple(chosen) or tuple(family for family in _SEARCHED if supports(family, kind))


def _known(name: str) -> str:
    if name not in FAMILIES and not is_own(name):
        raise ValueError(f"expected one of the families {', '.join(FAMILIES)}, or module:factory for one of your own")
    return name


FamilyName = Annotated[str, AfterValidator(_known)]
