"""The families there are: found by their names, drawn from and fitted."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

from tidemill.services.retraining.domain.families.family import Family, FamilyError
from tidemill.services.retraining.domain.families.own_estimator import OwnEstimator
from tidemill.shared.application.families import FAMILIES, is_own


def family_of(name: str) -> Family:
    """Return a family by its name.

    Raises
    ------
    FamilyError
        There is none of that name.
    """
    if is_own(name):
        return OwnEstimator(name)
    if name not in FAMILIES:
        raise FamilyError(f"expected one of the families {', '.join(FAMILIES)}, found {name}")
    # Loaded when needed: the libraries of all of them take seconds.
    return cast("Family", import_module(f"{__package__}.{name}").FAMILY)


def suggest(trial: Any, families: Sequence[str], windows_days: Sequence[int]) -> dict[str, Any]:  # optuna is untyped
    """Draw a family, a training window and the family's own hyperparameters.

    The search knows a hyperparameter by its family's name and its own, so that two families may draw one of the same name from different ranges.
    """
    family = trial.suggest_categorical("family", list(families))
    window_days = trial.suggest_categorical("window_days", list(windows_days))
    return {"family": family, "window_days": window_days, **family_of(family).suggest(_Subspace(trial, family))}


class _Subspace:
    """A trial as one family sees it."""

    def __init__(self, trial: Any, family: str) -> None:  # optuna is untyped
        self._trial, self._family = trial, family

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:  # optuna is untyped
        return float(self._trial.suggest_float(f"{self._family}.{name}", low, high, **how))

    def suggest_int(self, name: str, low: int, high: int, **how: Any) -> int:  # optuna is untyped
        return int(self._trial.suggest_int(f"{self._family}.{name}", low, high, **how))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # optuna is untyped
        return self._trial.suggest_categorical(f"{self._family}.{name}", choices)
