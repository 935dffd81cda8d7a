"""Stages that a test starts itself, as a supervisor starts its services: forked from a process that has loaded their libraries."""

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

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
    return ForkServer(LIBRARIES, LOADED_ONCE, Path(tempfile.mkdtemp(prefix="tidemill-tests-")) / "fork-server.log")
