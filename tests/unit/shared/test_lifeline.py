"""A family of processes that ends with one socket, whatever its members are busy with."""

import signal
import socket
import subprocess
import sys
import time

from tests.patience import patient

FAMILY = r"""
import os, signal, sys, time
from tidemill.shared.lifeline import end_with
end_with(int(sys.argv[1]))
if not os.fork():
    os.fork()
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.write(1, b"%d\n" % os.getpid())
while True:
    pass
"""


def test_a_process_and_forks_of_its_forks_end_once_the_other_end_is_closed() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", FAMILY, str(theirs.fileno())], stdout=subprocess.PIPE, pass_fds=[theirs.fileno()], text=True
        )
    assert process.stdout is not None
    pids = [int(process.stdout.readline()) for _ in range(3)]
    ours.close()
    assert process.wait(patient(10)) == -signal.SIGKILL
    deadline = time.monotonic() + patient(10)
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "none of them outlives the socket"
    process.stdout.close()


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
