"""How a training tells how far it has come."""

from collections.abc import Callable

TrainingObserver = Callable[[str, int, int], None]
"""Is told what is done now, how many of its parts are done, and how many there are."""


def nobody(step: str, done: int, of: int) -> None:
    """Listen to nothing."""
