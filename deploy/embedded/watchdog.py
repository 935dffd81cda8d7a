"""Run one command and end it when the process that asked for it is gone, whatever became of that process.

The parent holds the other end of this process's standard input. Its end (exit, crash, SIGKILL) closes the pipe; a changed parent
id covers the case that a forked sibling keeps the pipe open. Run as a script, without the package, so that it starts in
milliseconds: ``python -I -S watchdog.py GRACE_S COMMAND...``. Standard output carries one line, the pid of the command; the
command itself writes to standard error. A byte ``k`` on standard input kills the command, the end of input terminates it.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys

POLL_S = 0.2
PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Have the kernel kill the command when even this watchdog is killed (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(child: "subprocess.Popen[bytes]", first: signal.Signals, grace_s: float) -> None:
    child.send_signal(first)
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def watch(command: list[str], grace_s: float) -> int:
    """Run the command until it ends, or until the parent is gone or asks for its end; give the command's exit code."""
    parent = os.getppid()
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=_die_with_parent)
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    while child.poll() is None:
        readable, _, _ = select.select([0], [], [], POLL_S)
        order = os.read(0, 1) if readable else None
        if order == b"k":
            _end(child, signal.SIGKILL, grace_s)
        elif order == b"" or asked or os.getppid() != parent:
            _end(child, signal.SIGTERM, grace_s)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(watch(sys.argv[2:], float(sys.argv[1])))
