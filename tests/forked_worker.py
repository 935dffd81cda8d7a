"""Stands for an interpreter: ``python forked_worker.py SOCKET ... CODE`` lets a fork of another process execute the code.

The fork gets this process's standard files; this one ends when the fork has ended (`tests/worker_fork_server.py`). It imports next to nothing,
because a run of the tests starts several of it.
"""

import os
import signal
import socket
import sys


def main() -> None:
    """Hand over the standard files, and wait."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(sys.argv[1])
        socket.send_fds(server, [sys.argv[-1].encode()], [0, 1, 2])
        # Whoever reads what the fork writes sees its end at once.
        os.close(0)
        os.close(1)
        server.recv(1)


if __name__ == "__main__":
    main()
