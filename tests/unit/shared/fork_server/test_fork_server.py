"""A fork server: what it starts is ``python -m MODULE`` in every respect that a service can see, and nothing outlives anybody."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.patience import patient
from tidemill.shared.fork_server.client import ForkServer
from tidemill.shared.fork_server.process import StartedProcess

WORDS = ["first", "second"]
TELLS = """
import json, os, signal, sys, threading
name = __name__
with open(os.environ['TOLD'], 'w') as told:
    json.dump({
        'name': name, 'main': sys.modules['__main__'].__dict__ is globals(), 'words': sys.argv[1:], 'environment': dict(os.environ),
        'folder': os.getcwd(), 'nice': os.nice(0), 'loaded': 'loaded' in sys.modules, 'hook': os.environ.get('HOOKED'),
        'interrupts': signal.getsignal(signal.SIGINT) is signal.default_int_handler, 'threads': threading.active_count(),
        'main_thread': threading.current_thread() is threading.main_thread(),
    }, told)
print('an ordinary line')
print('an error', file=sys.stderr)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    (tmp_path / "tells.py").write_text(TELLS)
    (tmp_path / "loaded.py").write_text("")
    (tmp_path / "sleeps.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)")
    (tmp_path / "ends.py").write_text("import os, sys\nsys.exit(int(os.environ['CODE']))")
    (tmp_path / "raises.py").write_text("raise ValueError('no luck')")
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['HOOKED'] = os.environ.get('OWN', 'by the server')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = ForkServer({"SERVED": "1"}, ("loaded",), tmp_path / "server.log")
    yield made
    made.close()


def start(server: ForkServer, tmp_path: Path, module: str, **variables: str) -> StartedProcess:
    return server.start(
        module, {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), **variables}, tmp_path / f"{module}.log", 3, ("first", "second")
    )


def begun(tmp_path: Path, process: StartedProcess) -> None:
    deadline = time.monotonic() + patient(20)
    while "begun" not in (tmp_path / "sleeps.log").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_process_is_as_a_new_interpreter_would_be(server: ForkServer, tmp_path: Path) -> None:
    process = start(server, tmp_path, "tells", TOLD=str(tmp_path / "told"), OWN="by itself")
    assert process.wait(patient(20)) == 0
    told = json.loads((tmp_path / "told").read_text())
    assert told.pop("environment") == {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "TOLD": str(tmp_path / "told"), "OWN": "by itself", "HOOKED": "by itself",
    }  # fmt: skip
    assert told == {
        "name": "__main__", "main": True, "words": WORDS, "folder": os.getcwd(), "nice": os.nice(0) + 3, "loaded": True, "hook": "by itself",
        "interrupts": True, "threads": 1, "main_thread": True,
    }  # fmt: skip
    assert sorted((tmp_path / "tells.log").read_text().splitlines()) == ["an error", "an ordinary line"]


@pytest.mark.parametrize("code", [0, 2, 77])
def test_an_exit_code_is_heard(server: ForkServer, tmp_path: Path, code: int) -> None:
    """Of a server that was begun before somebody needed it, too: there is one, and what it says while nobody waits is heard."""
    others = set(psutil.Process().children())
    server.begin()
    server.begin()
    forks = set(psutil.Process().children()) - others
    server.await_message(patient(20))
    server.look()
    process = start(server, tmp_path, "ends", CODE=str(code))
    assert process.wait(patient(20)) == code == process.returncode
    assert len(forks) == 1 and set(psutil.Process().children()) - others == forks


def test_an_exception_ends_in_a_traceback_and_code_1(server: ForkServer, tmp_path: Path) -> None:
    assert start(server, tmp_path, "raises").wait(patient(20)) == 1
    assert "ValueError: no luck" in (tmp_path / "raises.log").read_text()


def test_a_signal_is_told_from_an_exit_code_and_its_name_stands_in_the_list_of_processes(server: ForkServer, tmp_path: Path) -> None:
    process = start(server, tmp_path, "sleeps")
    begun(tmp_path, process)
    assert " ".join(psutil.Process(process.pid).cmdline()).split() == [sys.executable, "-m", "sleeps", *WORDS]
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.0)
    process.terminate()
    assert process.wait(patient(20)) == -signal.SIGTERM
    process.kill()  # It has ended: another process may have its id by now.
    assert process.returncode == -signal.SIGTERM


def test_the_id_of_a_process_is_kept_until_its_end_was_heard(server: ForkServer, tmp_path: Path) -> None:
    process = start(server, tmp_path, "ends", CODE="0")
    deadline = time.monotonic() + patient(20)
    while not gone(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    assert psutil.pid_exists(process.pid) and process.returncode is None
    assert process.poll() == 0
    while psutil.pid_exists(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_was_killed_takes_its_processes_along_and_the_next_start_has_a_new_one(server: ForkServer, tmp_path: Path) -> None:
    process = start(server, tmp_path, "sleeps")
    begun(tmp_path, process)
    psutil.Process(process.pid).parent().kill()  # type: ignore[union-attr, unused-ignore]
    assert process.wait(patient(20)) == -signal.SIGKILL
    deadline = time.monotonic() + patient(20)
    while not gone(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert start(server, tmp_path, "ends", CODE="5").wait(patient(20)) == 5


def test_a_closed_server_leaves_nothing(server: ForkServer, tmp_path: Path) -> None:
    process = start(server, tmp_path, "sleeps")
    begun(tmp_path, process)
    parent = psutil.Process(process.pid).ppid()
    server.close()
    assert process.poll() == -signal.SIGKILL and gone(parent)
    deadline = time.monotonic() + patient(20)
    while not gone(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_socket_that_is_handed_over_is_an_argument_and_an_idle_server_alone_is_closed(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text(
        "import socket, sys\nwith socket.socket(fileno=int(sys.argv[1])) as peer:\n    peer.sendall(peer.recv(9) * 2)\n"
    )
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = server.start("answers", {"PATH": os.environ["PATH"]}, tmp_path / "log", sockets=[theirs])
        ours.settimeout(patient(20))
        first = psutil.Process(process.pid).ppid()
        server.close_if_idle()
        assert process.poll() is None and not gone(first)
        ours.sendall(b"word")
        assert ours.recv(9) == b"wordword" and ours.recv(9) == b"", "nobody else holds the other end"
    assert process.wait(patient(20)) == 0
    server.close_if_idle()
    assert gone(first) and start(server, tmp_path, "ends", CODE="5").wait(patient(20)) == 5


def test_who_waits_is_woken_by_the_end_and_holds_up_nobody_who_ends_it(server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.shared.fork_server.client._LOOK_AGAIN_S", patient(60))
    process = start(server, tmp_path, "sleeps")
    begun(tmp_path, process)
    codes: list[int] = []
    waits, await_message = threading.Event(), server.await_message

    def told(timeout_s: float) -> None:
        waits.set()
        await_message(timeout_s)

    monkeypatch.setattr(server, "await_message", told)
    waiting = threading.Thread(target=lambda: codes.append(process.wait()), daemon=True)
    waiting.start()
    assert waits.wait(patient(20))
    os.kill(process.pid, signal.SIGKILL)
    waiting.join(patient(20))
    assert codes == [-signal.SIGKILL]


@pytest.mark.parametrize("library, says", [("raise ValueError('no luck')", "no luck"), ("import time\ntime.sleep(600)", "did not answer within 1 s")])
def test_where_modules_cannot_be_loaded_each_process_has_an_interpreter_of_its_own_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, library: str, says: str
) -> None:
    (tmp_path / "broken.py").write_text(library)
    (tmp_path / "tells.py").write_text(TELLS)
    (tmp_path / "sleeps.py").write_text("import socket, sys\nsocket.socket(fileno=int(sys.argv[3])).send(b'begun')\nimport time\ntime.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # The one that raises has all the time that it needs to come to it.
    server = ForkServer({}, ("broken",), tmp_path / "server.log", 1.0 if "sleep" in library else patient(60))
    process = start(server, tmp_path, "tells", TOLD=str(tmp_path / "told"))
    assert process.wait(patient(20)) == 0 == process.returncode
    told = json.loads((tmp_path / "told").read_text())
    assert (told["words"], told["nice"], told["loaded"]) == (WORDS, os.nice(0) + 3, False)
    assert "PYTHONPATH" in told["environment"] and "HOME" not in told["environment"]
    (problem,) = caplog.messages
    assert "(it loads broken): from now on each starts in an interpreter of its own" in problem and says in problem
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            lasting = server.start("sleeps", dict(os.environ), tmp_path / "log", arguments=WORDS, sockets=[theirs])
        ours.settimeout(patient(20))
        assert ours.recv(9) == b"begun" and lasting.poll() is None
    server.close()
    assert lasting.poll() == -signal.SIGKILL and len(caplog.messages) == 1
