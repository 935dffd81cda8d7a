"""What a change detector is to the folds that use one: values in, changes out, and a state that can be written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """A detected change of a mean.

    Attributes
    ----------
    row
        Row of the batch at which it was detected.
    mean_before, width_before
        Of the detector's window before that row.
    mean_after, width_after
        Of what the detector kept of it.
    """

    row: int
    mean_before: float
    width_before: int
    mean_after: float
    width_after: int


def checked(name: str, values: Values, bits: bool) -> NDArray[np.float64]:
    """Return values that a detector can take, shape (n,).

    Raises
    ------
    ValueError
        One is not finite, or is neither 0 nor 1 where a detector takes nothing else. Who feeds a detector leaves such rows out.
    """
    numbers = np.asarray(values, dtype=np.float64)
    wrong = np.flatnonzero(~((numbers == 0) | (numbers == 1)) if bits else ~np.isfinite(numbers))
    if wrong.size:
        expected = "0 or 1" if bits else "finite numbers"
        raise ValueError(f"{name}: expected {expected}, found {numbers[wrong[0]]} in row {wrong[0]}")
    return numbers


class Detector(Protocol):
    """Detects changes of the mean of errors (0 or 1) or of losses in [0, 1].

    A detector is part of a fold: batches of any size give the same changes, and one that has loaded a snapshot goes on as the one that made it.
    """

    @property
    def name(self) -> str:
        """What findings call it."""
        ...

    @property
    def bits(self) -> bool:
        """Whether it takes 0 and 1 and nothing else."""
        ...

    def update(self, values: Values, expected: Values | None = None) -> list[Change]:
        """Absorb values in order and report the changes.

        Parameters
        ----------
        expected
            What each value is expected to be, such as the rate of errors that a model's own score promises; most detectors need none.

        Raises
        ------
        ValueError
            A value is none that it takes.
        """
        ...

    def reset(self) -> None:
        """Forget everything."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts, which JSON keeps exactly."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot.

        Raises
        ------
        ValueError
            It is no state of this detector.
        """
        ...
