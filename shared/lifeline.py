"""Ties a child process to its parent: whatever ends the parent ends the child, also SIGKILL."""

import ctypes
import fcntl
import os
import select
import signal
from collections.abc import Callable
from functools import partial

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_F_SETSIG = 10


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


def end_with(descriptor: int) -> None:
    """Have the kernel end this process, and all that it forks from now on, once the other end of a socket is closed; nothing may be sent over it.

    Processes whose parent has ended are no orphans then, as long as this one lives: they become its children.
    """
    os.setpgid(0, 0)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(descriptor, 0)
    if poll.poll(0):
        os._exit(1)
