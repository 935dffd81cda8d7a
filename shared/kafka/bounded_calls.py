"""Calls into a client library that are given up when they do not come back in time."""

import queue
import threading
from collections.abc import Callable
from typing import Any


class CallHangsError(RuntimeError):
    """A call did not come back; the client it went into cannot be used any more (crash: a new process makes a new client)."""


class BoundedCalls:
    """Makes calls, one at a time, in a thread of its own; a caller waits no longer than the limit.

    Handing a call over costs about ten microseconds, so it is for calls made once a transaction. The thread starts with the first call.

    Parameters
    ----------
    limit_s
        Longest wait, seconds. More than the call's own time-out: this is for calls that do not keep theirs.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._doing: str | None = None
        self._hanging: str | None = None

    def call(self, doing: str, action: Callable[[], Any]) -> Any:
        """Do it; what it returns or raises.

        Raises
        ------
        CallHangsError
            It did not come back, or an earlier one has not.
        """
        self.begin(doing, action)
        return self.result()

    def begin(self, doing: str, action: Callable[[], Any]) -> None:
        """Let it be done meanwhile; `result` must follow before the next call.

        Raises
        ------
        CallHangsError
            An earlier one has not come back.
        """
        if self._hanging is not None:
            raise CallHangsError(f"{doing}: not tried, since an earlier call hangs ({self._hanging})")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="bounded-calls", daemon=True)
            self._thread.start()
        self._doing = doing
        self._calls.put(action)

    @property
    def pending(self) -> bool:
        """Whether a call was begun and its result not asked for yet."""
        return self._doing is not None

    def result(self) -> Any:
        """Return what the call that was begun returns, or raise what it raises; the limit counts from here on.

        Raises
        ------
        CallHangsError
            It did not come back.
        """
        doing, self._doing = self._doing, None
        if doing is None:
            raise RuntimeError("expected a call that was begun")
        try:
            answer, problem = self._answers.get(timeout=self._limit_s)
        except queue.Empty:
            self._hanging = doing
            raise CallHangsError(f"{doing}: the client did not come back from the call within {self._limit_s:.0f} s") from None
        if problem is not None:
            raise problem
        return answer

    def close(self) -> None:
        """End the thread, once the call it is in comes back."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _work(self) -> None:
        while (action := self._calls.get()) is not None:
            try:
                self._answers.put((action(), None))
            except BaseException as problem:
                self._answers.put((None, problem))
