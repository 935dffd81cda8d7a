"""Stands for an interpreter: ``python forked_python.py SOCKET PYTHON WORDS...`` has ``PYTHON WORDS...`` done by a fork.

The fork (`tests/worker_fork_server.py`) has imported Tidemill and its libraries. It gets this process's files, environment and folder, and ends with
it. Signals that ask a process to end are handed on; its end is the fork's. Words that say anything but ``-m MODULE``, ``-c CODE`` or a file are left
to the interpreter. It imports next to nothing, because the tests start hundreds of it.
"""

import json
import os
import signal
import socket
import sys
from types import FrameType

BECOME = "from tests.become_python import become; become(connection, handed)"
_STANDARD_FILES = 3
_NUMBER_BYTES = 4
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Hand over what an interpreter would get, and wait for the fork's end."""
    address, python, *words = sys.argv[1:]
    task = _task(words)
    if task is None:
        os.execv(python, [python, *words])
    files = [file for file in map(int, os.listdir("/proc/self/fd")) if file >= _STANDARD_FILES and _is_open(file)]
    note = os.memfd_create("task")
    executable = os.path.join(os.path.dirname(address), "python")
    os.write(note, json.dumps({**task, "executable": executable, "environment": dict(os.environ), "folder": os.getcwd(), "files": files}).encode())
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [BECOME.encode()], [0, 1, 2, note, *files])
        for file in (0, 1, 2, note, *files):
            # Whoever reads what the fork writes sees its end at once.
            os.close(file)
        os._exit(_code(connection))


def _code(connection: socket.socket) -> int:
    """Wait for the end of the fork at the other end of a connection; return its exit code, or end by the signal that ended it."""
    pid = int.from_bytes(connection.recv(_NUMBER_BYTES), "little")
    if not pid:
        return 1

    def hand_on(number: int, _: FrameType | None) -> None:
        os.kill(pid, number)

    for number in _ENDING:
        signal.signal(number, hand_on)
    code = int.from_bytes(connection.recv(_NUMBER_BYTES), "little", signed=True)
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


def _task(words: list[str]) -> dict[str, object] | None:
    """Return what the words of a command line tell an interpreter to execute; None where that is not one of the three."""
    words = words[1:] if words[:1] == ["-u"] else words
    if len(words) > 1 and words[0] in ("-m", "-c"):
        return {"kind": words[0], "what": words[1], "arguments": words[2:]}
    if words and not words[0].startswith("-"):
        return {"kind": "file", "what": words[0], "arguments": words[1:]}
    return None


def _is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
