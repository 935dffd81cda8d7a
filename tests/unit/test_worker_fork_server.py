"""How the workers of a test run are forked, and end."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.worker_fork_server import WorkerForkServer

_LIMIT_S = 60.0


def test_the_workers_of_this_run_were_forked_from_a_process_without_pools() -> None:
    """A module of Tidemill that calculates when it is imported begins threads: a fork has none of them, and waits for them for good."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("the tests run in one process")
    assert "tests.worker_fork_server" in sys.orig_argv
    threads = {name.read_text().strip() for name in Path(f"/proc/{os.getppid()}/task").glob("*/comm")}
    assert threads and not [name for name in threads if name.startswith(("polars-0", "tokio", "rayon"))]


@pytest.fixture
def interpreter() -> Iterator[list[str]]:
    """The interpreter that xdist would start, of a server that collects nothing."""
    with closing(WorkerForkServer([])) as server:
        yield shlex.split(server.specification.removeprefix("popen//python="))


def test_a_fork_executes_the_code_with_the_files_that_it_is_given(interpreter: list[str]) -> None:
    code = "import os, sys; print(input(), 'hypothesis' in sys.modules); print(os.getpid(), file=sys.stderr)"
    ended = [
        subprocess.run([*interpreter, "-u", "-c", code], input=word, capture_output=True, text=True, timeout=_LIMIT_S, check=True)
        for word in ("one", "another")
    ]
    assert [process.stdout for process in ended] == ["one True\n", "another True\n"]
    assert len({process.stderr for process in ended}) == 2


def test_an_interpreter_ends_when_its_fork_is_killed(interpreter: list[str]) -> None:
    code = "import os, signal; print('here', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([*interpreter, "-c", code], capture_output=True, text=True, timeout=_LIMIT_S, check=False).stdout == "here\n"


def test_forks_end_with_their_server() -> None:
    server = WorkerForkServer([])
    command = [*shlex.split(server.specification.removeprefix("popen//python=")), "-c", "print('here', flush=True); import time; time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as interpreter:
        assert interpreter.stdout is not None and interpreter.stdout.readline() == "here\n"
        server.close()
        interpreter.wait(_LIMIT_S)
