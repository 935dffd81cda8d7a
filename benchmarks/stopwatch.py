"""CPU time by part of the code, nested parts counted once."""

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """Wraps functions and adds up the CPU time each spends outside of the other wrapped ones.

    Parameters
    ----------
    clock
        Nanoseconds: `time.thread_time_ns` (this thread) or `time.process_time_ns` (all threads).
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._open: list[list[int]] = []
        self._undo: list[Callable[[], None]] = []
        self.ns: defaultdict[str, int] = defaultdict(int)

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Count calls of `owner.name` (a class, an instance or a module) under a part."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*given: Any, **named: Any) -> Any:
            began = self._clock()
            frame = [0]
            self._open.append(frame)
            try:
                return inner(*given, **named)
            finally:
                spent = self._clock() - began
                self._open.pop()
                self.ns[part] += spent - frame[0]
                if self._open:
                    self._open[-1][0] += spent

        setattr(owner, name, timed)
        self._undo.append(lambda: setattr(owner, name, inner))

    def reset(self) -> None:
        """Forget what was counted."""
        self.ns.clear()

    def unwrap(self) -> None:
        """Put the functions back."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
