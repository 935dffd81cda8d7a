"""How the workers of a test run are forked, and end."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.patience import until
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


@pytest.fixture
def python(tmp_path: Path) -> Iterator[str]:
    """What `sys.executable` is in tests whose processes are forked."""
    with closing(WorkerForkServer([])) as server:
        yield server.python


WORDS = "import os, sys; print(sys.argv[1:], os.environ['A_WORD'], os.getcwd(), 'hypothesis' in sys.modules); sys.exit(int(sys.argv[1]))"


@pytest.mark.parametrize("kind", ["-c", "-m", "file"])
def test_what_is_started_as_an_interpreter_gets_its_words_environment_and_folder_and_its_exit_code_is_told(
    python: str, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "says.py").write_text(WORDS)
    words = {"-c": ["-c", WORDS], "-m": ["-m", "says"], "file": ["says.py"]}[kind]
    for code in (0, 3):
        done = subprocess.run(
            [python, *words, str(code)], cwd=tmp_path, env={"A_WORD": "word"}, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (code, f"['{code}'] word {tmp_path} True\n", "")


def test_files_go_along_and_errors_are_told_as_an_interpreter_tells_them(python: str) -> None:
    reading, writing = os.pipe()
    code = f"import os; os.write({writing}, b'through'); 1 / 0"
    done = subprocess.run([python, "-c", code], pass_fds=[writing], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    os.close(writing)
    assert os.read(reading, 100) == b"through" and os.read(reading, 100) == b"", "nobody else has it"
    os.close(reading)
    assert done.returncode == 1 and done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_what_the_interpreter_alone_can_say_it_says(python: str) -> None:
    done = subprocess.run([python, "--version"], capture_output=True, text=True, timeout=_LIMIT_S, check=True)
    assert done.stdout.split()[1] == sys.version.split()[0]


WAITS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); import os; print(os.getpid(), flush=True); time.sleep(600)"


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 5), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, -signal.SIGINT)])
def test_signals_reach_the_fork_and_it_ends_with_its_stand_in(python: str, number: signal.Signals, code: int) -> None:
    with subprocess.Popen([python, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        fork = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(_LIMIT_S) == code
    until(lambda: not Path(f"/proc/{fork}").exists(), "the end of the fork")


def test_which_signal_ended_the_fork_is_told(python: str) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert subprocess.run([python, "-c", code], timeout=_LIMIT_S, check=False).returncode == -signal.SIGSEGV


def test_forks_end_with_their_server() -> None:
    server = WorkerForkServer([])
    command = [*shlex.split(server.specification.removeprefix("popen//python=")), "-c", "print('here', flush=True); import time; time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as interpreter:
        assert interpreter.stdout is not None and interpreter.stdout.readline() == "here\n"
        server.close()
        interpreter.wait(_LIMIT_S)
