"""Stages that a test starts itself, as a supervisor starts its services: forked from a process that has loaded their libraries."""

import os
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from tidemill.runs.pipeline import LIBRARIES
from tidemill.runs.supervisor import LOADED_ONCE
from tidemill.shared.fork_server.client import ForkServer
from tidemill.shared.fork_server.process import StartedProcess


def start(module: str, *arguments: str, log: Path, environment: Mapping[str, str] = os.environ) -> StartedProcess:
    """Start ``python -m MODULE ARGUMENTS`` with an environment of its own; it ends with the tests at the latest."""
    return server().start(module, environment, log, arguments=arguments)


@cache
def server() -> ForkServer:
    """Return the one of all tests of a worker process, whose main thread runs them: for their supervisors, too."""
    made = ForkServer(LIBRARIES, LOADED_ONCE, Path(tempfile.mkdtemp(prefix="tidemill-tests-")) / "fork-server.log")
    with pytest.MonkeyPatch.context() as patch:
        fork_interpreters(patch)
        made.begin()
    return made


def fork_interpreters(patch: pytest.MonkeyPatch) -> None:
    """From now on fork what is started as an interpreter, and what that starts: an import of Tidemill costs seconds of processor time.

    Where the tests run in one process there is nothing to fork from, and where nothing in the temporary folder may be executed there is no such
    interpreter: the usual one is started.
    """
    if _PYTHON and os.access(_PYTHON[-1], os.X_OK):
        patch.setattr(sys, "executable", _PYTHON[-1])


def offer(python: str) -> None:
    """Say which interpreter's processes are forked (`tests.worker_fork_server`)."""
    _PYTHON.append(python)


_PYTHON: list[str] = []
