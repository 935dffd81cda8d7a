"""What a piece of code does, counted: a figure that no busy machine changes, where a time would need room for one."""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any


@dataclass(slots=True)
class Effort:
    """Calls that one thread has made.

    Attributes
    ----------
    calls
        Calls of functions, Python's and C's alike. What a C function does inside counts as one.
    c_functions
        How often each C function was called, by its qualified name.
    """

    calls: int = 0
    c_functions: Counter[str] = field(default_factory=Counter)


@contextmanager
def effort() -> Iterator[Effort]:
    """Count the calls of this thread inside the block. The collector rests: its callbacks belong to whatever ran before."""
    effort = Effort()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            effort.calls += 1
        elif event == "c_call":
            effort.calls += 1
            effort.c_functions[getattr(argument, "__qualname__", "")] += 1

    before, collected = sys.getprofile(), gc.isenabled()
    gc.disable()
    sys.setprofile(count)
    try:
        yield effort
    finally:
        sys.setprofile(before)
        if collected:
            gc.enable()


def calls_of(function: Callable[[], object]) -> int:
    """Return how many calls a function makes."""
    with effort() as measured:
        function()
    return measured.calls
