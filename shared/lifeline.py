"""Ties a child process to its parent: whatever ends the parent ends the child, also SIGKILL."""

import ctypes
import os
import signal
from collections.abc import Callable
from functools import partial

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def tied_to_parent() -> Callable[[], None]:
    """Return what the child must do between fork and exec (`subprocess.Popen(preexec_fn=...)`): ask the kernel for SIGKILL at its parent's end.

    The kernel looks at the *thread* that forked, so start children from a thread that lasts. A parent that ended before the child
    had asked is noticed too.
    """
    return partial(tie_to, os.getpid())


def tie_to(parent: int) -> None:
    """Tie this process to its parent, whose process id it was told."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
