"""A call that comes back does what it would have done; one that does not is given up, and so is the client behind it."""

import threading

import pytest

from tests.patience import patient
from tidemill.shared.kafka.bounded_calls import BoundedCalls, CallHangsError


def test_a_call_returns_and_raises_what_the_action_does() -> None:
    calls = BoundedCalls(limit_s=30.0)
    assert calls.call("adds", lambda: 1 + 1) == 2

    def fail() -> None:
        raise KeyError("offset")

    with pytest.raises(KeyError, match="offset"):
        calls.call("fails", fail)
    assert calls.call("goes on", lambda: "still") == "still"
    calls.close()


def test_calls_run_in_one_thread_that_is_not_the_callers() -> None:
    calls = BoundedCalls(limit_s=30.0)
    first, second = (calls.call("asks", threading.get_ident) for _ in range(2))
    assert first == second != threading.get_ident()
    calls.close()


def test_a_call_goes_on_while_the_caller_does_something_else() -> None:
    calls, on = BoundedCalls(limit_s=30.0), threading.Event()
    calls.begin("waits", lambda: on.wait(patient(30.0)))
    assert calls.pending
    on.set()
    assert calls.result() is True
    assert not calls.pending
    with pytest.raises(RuntimeError, match="expected a call that was begun"):
        calls.result()
    calls.close()


def test_a_call_that_does_not_come_back_is_given_up_and_nothing_is_tried_after_it() -> None:
    calls, back = BoundedCalls(limit_s=0.05), threading.Event()
    with pytest.raises(CallHangsError, match="adds offsets: the client did not come back from the call within 0 s"):
        calls.call("adds offsets", back.wait)
    tried: list[int] = []
    with pytest.raises(CallHangsError, match=r"not tried, since an earlier call hangs \(adds offsets\)"):
        calls.call("adds more", lambda: tried.append(1))
    assert not tried
    back.set()
