"""What a change detector is to the folds that use one: values in, changes out, and a state that can be written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


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


class Detector(Protocol):
    """Detects changes of the mean of a bounded value, such as a loss in [0, 1].

    A detector is part of a fold: batches of any size give the same changes, and one that has loaded a snapshot goes on as the one that made it.
    """

    @property
    def name(self) -> str:
        """What findings call it."""
        ...

    @property
    def delta(self) -> float:
        """Significance of one check."""
        ...

    def update(self, values: Sequence[float]) -> list[Change]:
        """Absorb values in order and report the changes."""
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
