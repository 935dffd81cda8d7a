"""What a fork does to be the interpreter that somebody has started (`tests/forked_python.py`)."""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from setproctitle import setproctitle

from tidemill.shared.lifeline import end_with

# Beyond every number that a file may be wanted at, and that this process has.
_OUT_OF_THE_WAY = 512
_HOOK = "sitecustomize"


def become(connection: int, handed: Sequence[int]) -> NoReturn:
    """Execute what the stand-in was told to, as an interpreter of its own would, and end with it.

    Parameters
    ----------
    connection
        To the stand-in, which says nothing over it: its end is the fork's.
    handed
        A file that says what to do, and files that the stand-in was given beside the standard ones.
    """
    peer, note, *files = (_moved(file) for file in (connection, *handed))
    if child := os.fork():
        _tell_of_end(socket.socket(fileno=peer), child)
    end_with(peer)
    os.close(peer)
    with open(note, "rb") as said:
        said.seek(0)
        task: dict[str, Any] = json.load(said)
    for file, number in zip(files, task["files"], strict=True):
        os.dup2(file, number)
        os.close(file)
    _take_over(task)
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    gc.enable()
    code = _executed(task)
    threading._shutdown()  # type: ignore[attr-defined]
    # ONNX Runtime would wait for a thread that was not forked, and abort.
    atexit._run_exitfuncs()
    for output in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            output.flush()
    os._exit(code & 255)


def _tell_of_end(stand_in: socket.socket, child: int) -> NoReturn:
    """Tell the stand-in the process id and, when it has ended, its exit code, or which signal ended it."""
    os.closerange(0, _OUT_OF_THE_WAY)
    with contextlib.suppress(BrokenPipeError):
        stand_in.sendall(child.to_bytes(4, "little"))
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        stand_in.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
    os._exit(0)


def _moved(file: int) -> int:
    moved = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    os.close(file)
    return moved


def _take_over(task: Mapping[str, Any]) -> None:
    """Have the command line, the environment and the folder of the stand-in; what this process starts as an interpreter is a fork, too."""
    words = [task["what"], *task["arguments"]]
    # Before the environment changes: the arguments are found by it.
    setproctitle(" ".join([task["executable"], *([] if task["kind"] == "file" else [task["kind"]]), *words]))
    os.environ.clear()
    os.environ.update(task["environment"])
    os.chdir(task["folder"])
    sys.argv = [*words] if task["kind"] != "-c" else ["-c", *task["arguments"]]
    sys.executable = task["executable"]
    first = str(Path(task["what"]).parent.absolute()) if task["kind"] == "file" else task["folder"]
    sys.path[:0] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    importlib.invalidate_caches()
    sys.modules.pop(_HOOK, None)
    with contextlib.suppress(ImportError):
        importlib.import_module(_HOOK)


def _executed(task: Mapping[str, Any]) -> int:
    """Execute; return the exit code that an interpreter would end with."""
    try:
        if task["kind"] == "-m":
            runpy.run_module(task["what"], run_name="__main__", alter_sys=True)
        elif task["kind"] == "-c":
            exec(compile(task["what"], "<string>", "exec"), sys.modules["__main__"].__dict__)
        else:
            runpy.run_path(task["what"], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # as an interpreter
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
