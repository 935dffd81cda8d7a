"""What hyperparameters a family has, and values of them: drawn from the search's own ranges, or their middles."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tidemill.services.retraining.domain.families.registry import family_of


class _Source(Protocol):
    def __call__(self, low: float, high: float, log: bool) -> float: ...


class _Ranges:
    """Stands for optuna's trial where a family says what it would draw."""

    def __init__(self, number: _Source, choice: Callable[[Sequence[Any]], Any]) -> None:
        self._number, self._choice = number, choice

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        value = self._number(low, high, log)
        return float(value if step is None else low + step * min(round((value - low) / step), math.floor((high - low) / step + 1e-9)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self._number(low, high, log)
        return int(low + step * min(round((value - low) / step), (high - low) // step))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # whatever a family chooses from
        return self._choice(choices)


def _middle(low: float, high: float, log: bool) -> float:
    return math.sqrt(low * high) if log else (low + high) / 2


def middles(family: str) -> dict[str, Any]:
    """Return each hyperparameter of a family at the middle of its range (of a logarithmic one the geometric mean).

    >>> middles("logistic_regression")
    {'strength': 0.03162277660168379}
    """
    return dict(family_of(family).suggest(_Ranges(_middle, lambda choices: choices[0])))


def drawn(family: str, generator: np.random.Generator) -> Mapping[str, Any]:
    """Return hyperparameters drawn from a family's ranges, to four digits: what stands in the table is what was trained."""

    def number(low: float, high: float, log: bool) -> float:
        value = math.exp(generator.uniform(math.log(low), math.log(high))) if log else generator.uniform(low, high)
        return float(f"{value:.4g}")

    return dict(family_of(family).suggest(_Ranges(number, lambda choices: choices[int(generator.integers(len(choices)))])))
