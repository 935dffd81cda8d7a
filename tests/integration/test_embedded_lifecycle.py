"""Nothing is left behind, whatever becomes of the process that started the servers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.infrastructure import running_servers
from tests.long_forms import shortened
from tests.patience import patient
from tidemill.deploy.embedded.component import ComponentError
from tidemill.deploy.embedded.infrastructure import Infrastructure, InfrastructureError

pytestmark = [pytest.mark.timeout(180), pytest.mark.own_interpreters]
# A program that starts the servers in the folder of its argument, forks a sibling that inherits its pipes, and says so.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from tidemill.deploy.embedded.infrastructure import Infrastructure
with Infrastructure.embedded(Path(sys.argv[1])) as servers:
    sibling = os.fork()
    if sibling == 0:
        time.sleep(600)
    print("ready", sibling, servers.kafka.pid, servers.registry.pid, servers.redis.pid, flush=True)
    try:
        signal.pause()
    finally:
        os.kill(sibling, signal.SIGKILL)
"""


def wait_for(condition: Callable[[], bool], deadline_s: float = patient(30.0)) -> bool:
    """Poll until the condition holds; say whether it did."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every living process that works in, or names, the folder."""
    processes = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if process.info["status"] != psutil.STATUS_ZOMBIE and (str(folder) in words or (process.info["cwd"] or "").startswith(str(folder))):
            processes.append(process)
    return processes


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A running program with servers in `tmp_path`, and the pids of its sibling and servers."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    pids: list[int] = []
    try:
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"]
        pids = [int(word) for word in words[1:]]
        assert len(processes_of(tmp_path)) >= 7  # the program, its sibling, three servers with their watchdogs
        yield process, pids
    finally:
        process.kill()
        for pid in pids[:1]:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.lasts(8)
def test_a_killed_parent_leaves_no_server(program: tuple["subprocess.Popen[str]", list[int]], tmp_path: Path) -> None:
    process, pids = program
    process.kill()
    process.wait()
    sibling = pids[0]
    assert psutil.pid_exists(sibling)  # it still holds the pipes
    assert wait_for(lambda: not [left for left in processes_of(tmp_path) if left.pid != sibling]), processes_of(tmp_path)


@pytest.mark.parametrize("number", shortened([signal.SIGINT, signal.SIGTERM], 1))
def test_an_interrupted_parent_leaves_no_server(program: tuple["subprocess.Popen[str]", list[int]], tmp_path: Path, number: signal.Signals) -> None:
    process, pids = program
    process.send_signal(number)
    process.wait(patient(30))
    assert wait_for(lambda: not [left for left in processes_of(tmp_path) if left.pid != pids[0]]), processes_of(tmp_path)


def test_a_killed_watchdog_takes_its_server_along() -> None:
    with running_servers("redis") as servers:
        redis = servers["redis"]
        pid = redis.pid
        watchdog = psutil.Process(pid).parent()
        assert watchdog is not None
        watchdog.kill()
        assert wait_for(lambda: not psutil.pid_exists(pid))
        assert not redis.running
        redis.start()
        assert redis.running


def test_given_servers_cannot_be_controlled() -> None:
    with Infrastructure.given("127.0.0.1:1", "http://127.0.0.1:2", "redis://127.0.0.1:3") as servers:
        with pytest.raises(InfrastructureError, match="embedded redis"):
            servers.redis.stop()
        with pytest.raises(InfrastructureError, match="given by address"):
            _ = servers.folder


def test_a_broken_configuration_is_explained_by_the_end_of_the_log() -> None:
    with running_servers("kafka", "redis") as servers:
        kafka = servers["kafka"]
        kafka.stop()
        properties = kafka.folder / "server.properties"
        properties.write_text(properties.read_text().replace("num.network.threads=2", "num.network.threads=many"))
        with pytest.raises(ComponentError) as failure:
            kafka.start()
        assert "kafka: ended with exit code 1 before it was ready" in str(failure.value)
        assert "num.network.threads" in failure.value.tail
        assert servers["redis"].running


def test_a_failed_start_stops_the_other_servers(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonly.aof").write_text("this is no append-only file")
    with pytest.raises(ComponentError, match="redis"), Infrastructure.embedded(tmp_path):
        raise AssertionError("the servers came up with a damaged Redis")
    assert wait_for(lambda: not processes_of(tmp_path)), processes_of(tmp_path)
