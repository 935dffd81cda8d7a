"""One server process: comes up, says clearly when it does not, goes down, leaves nothing."""

import socket
import sys
from pathlib import Path

import psutil
import pytest

from tidemill.deploy.embedded.component import Component, ComponentError, accepts_connections, free_port, log_tail

SERVER = """
import socket, sys, signal
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
signal.pause()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('stubborn', flush=True)\nwhile True: signal.pause()"
BROKEN = "import sys\nfor n in range(100): print('line', n)\nsys.exit('bad property: colour=blue')"


def component(folder: Path, port: int, program: str = SERVER, deadline_s: float = 20, grace_s: float = 5) -> Component:
    command = [sys.executable, "-c", program, str(port)]
    return Component("server", f"127.0.0.1:{port}", command, folder, lambda: accepts_connections(port), deadline_s=deadline_s, grace_s=grace_s)


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_starts_and_ends_and_starts_again_on_its_port(tmp_path: Path, way: str) -> None:
    server = component(tmp_path, free_port())
    server.start()
    pid = server.pid
    server.start()  # already running: nothing happens
    assert server.pid == pid
    getattr(server, way)()
    assert not server.running
    assert not psutil.pid_exists(pid)
    server.stop()  # already stopped: nothing happens
    server.start()
    assert server.pid != pid
    server.restart()
    assert server.running
    server.stop()


def test_a_process_that_ends_early_shows_the_end_of_its_log(tmp_path: Path) -> None:
    server = component(tmp_path, free_port(), BROKEN)
    with pytest.raises(ComponentError) as failure:
        server.start()
    message = str(failure.value)
    assert "server: ended with exit code 1 before it was ready" in message
    assert "bad property: colour=blue" in message
    assert "line 99" in message
    assert "line 10\n" not in message
    assert str(tmp_path / "server.log") in message


def test_a_process_that_never_answers_is_ended_at_the_deadline(tmp_path: Path) -> None:
    server = component(tmp_path, free_port(), STUBBORN, deadline_s=1, grace_s=0.5)
    with pytest.raises(ComponentError, match="not ready within 1 s") as failure:
        server.start()
    assert failure.value.tail == "stubborn"
    assert not server.running


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    missing = Component("server", "nowhere", ["/nonexistent/program"], tmp_path, lambda: True)
    with pytest.raises(ComponentError, match="could not be started") as failure:
        missing.start()
    assert "/nonexistent/program" in str(failure.value)


def test_the_pid_of_a_stopped_server_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="expected it to be running"):
        _ = component(tmp_path, free_port()).pid


def test_free_port_is_free() -> None:
    port = free_port()
    assert not accepts_connections(port)
    with socket.create_server(("127.0.0.1", port)):
        assert accepts_connections(port)


def test_log_tail_of_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "absent.log") == ""
