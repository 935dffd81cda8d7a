"""What a model answers: one of some classes, or a number. Everything that depends on it is asked of its kind."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.shared.statistics.bootstrap import Interval
from tidemill.shared.statistics.propensity import Weights

Default = float | str | Mapping[str, float] | None
"""What `fallback.default` may be: a probability or a value, a class, or a probability by class; None, where none is given, fits no kind."""


class Kind(Protocol):
    """A kind of question. Pure, vectorised, without state.

    A label is one float in every topic and file: 0 or 1 (binary), the index of the class (multiclass), the value (regression). Scores are float64:
    shape (n,) for binary (probability of the positive class) and regression (the value), (n, K) for multiclass (probabilities in the order of the
    classes; rows sum to 1).

    Attributes
    ----------
    name
        As in the application file: ``binary``, ``multiclass`` or ``regression``.
    has_classes
        Whether it is one of several classes: multiclass.
    is_learned
        Whether the classes are learned: a version may know the first of them only, and gives the others no probability.
    classes
        Names of the classes of a multiclass model, in the order of the application file, or in which they were learned; empty for the other kinds,
        and as long as none is learned.
    expected
        What a label must be, in words for messages.
    headline
        Name of the one metric that a run is summed up by.
    rising, falling
        Names of the metrics of which more is better, and less.
    width
        Scores of one row: K for multiclass, else 1.
    least, most
        Between which each score of an answer lies.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def has_classes(self) -> bool: ...  # noqa: D102

    @property
    def is_learned(self) -> bool: ...  # noqa: D102

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def expected(self) -> str: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    @property
    def least(self) -> float: ...  # noqa: D102

    @property
    def most(self) -> float: ...  # noqa: D102

    @property
    def headline(self) -> str: ...  # noqa: D102

    @property
    def rising(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def falling(self) -> tuple[str, ...]: ...  # noqa: D102

    def is_label(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return which values are labels of this kind, shape (n,)."""
        ...

    def is_score(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows have scores that can be answered, shape (n,): probabilities (that sum up to 1), and numbers that 32 bits hold."""
        ...

    def losses(self, labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
        """Return the loss of each row, shape (n,): log loss in nats, squared error for regression."""
        ...

    def decide(self, scores: NDArray[np.float64], threshold: float | NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the class of each row, shape (n,): binary by the threshold, multiclass the likeliest (ties: the lower index), regression 0."""
        ...

    def lack(self, labels: ArrayLike, least: int) -> str:
        """Say which classes have fewer than `least` rows, empty when none has; regression: whether there are fewer than `least` rows."""
        ...

    def figures(self, labels: ArrayLike, scores: ArrayLike, predicted: ArrayLike, weights: Weights = None) -> dict[str, float]:
        """Return the metrics of the kind by name, rows counted by their weights; what is undefined on these rows is left out."""
        ...

    def lead(self, labels: ArrayLike, first: ArrayLike, second: ArrayLike, blocks: ArrayLike, weights: Weights = None) -> Interval:
        """Return the headline metric of the first scores minus that of the second on the same rows, with its 95 % interval over blocks of rows."""
        ...

    def default_scores(self, default: Default) -> NDArray[np.float64]:
        """Return what the fallback scores: shape () for binary and regression, (K,) for multiclass.

        Raises
        ------
        ValueError
            The default does not fit the kind; the message says what would.
        """
        ...


def words(names: tuple[str, ...], most: int = 12) -> str:
    """Write names down for a message, not more of them than somebody reads.

    >>> words(("setosa", "versicolor"))
    'setosa, versicolor'
    >>> words(("a", "b", "c"), most=2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:most])} and {more} more"
