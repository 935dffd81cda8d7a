"""Trainings as child processes: a killed one is started again, none gets a twin, none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tidemill.services.retraining.processes.job_files import JobRequest
from tidemill.services.retraining.processes.trainer import ProcessTrainer
from tidemill.services.retraining.processes.warm_child import WarmChild

DEADLINE_S = 30.0


def request(champion: str = "", max_duration_ms: int = 60_000) -> JobRequest:
    """A job that fails as soon as it looks at its application."""
    return JobRequest("nowhere", "lake", "artifacts", {"decision_id": "d", "journal_time": 0, "model": "m"}, champion, "", max_duration_ms)


def children() -> list[psutil.Process]:
    """Trainings that run; those that have ended and were not looked at yet are left out."""
    running = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in running if "tidemill.services.retraining.processes.job" in child.cmdline()]


def test_a_killed_training_is_started_again_three_times_in_all(tmp_path: Path) -> None:
    trainer, killed, result = ProcessTrainer(tmp_path), set[int](), None
    trainer.start(request())
    deadline = time.monotonic() + DEADLINE_S
    while result is None:
        assert time.monotonic() < deadline
        for child in children():
            os.kill(child.pid, signal.SIGKILL)
            killed.add(child.pid)
        result = trainer.poll()
    assert len(killed) == 3
    assert not result.finished and "killed by signal 9, 3 times" in result.reason


def test_a_training_that_fails_by_itself_says_why_at_once(tmp_path: Path) -> None:
    trainer = ProcessTrainer(tmp_path)
    trainer.start(request())
    deadline = time.monotonic() + DEADLINE_S
    while (result := trainer.poll()) is None:
        assert time.monotonic() < deadline
    assert not result.finished and "ended with 1" in result.reason and "app.yaml" in result.reason


def test_the_same_training_goes_on_and_another_takes_its_place(tmp_path: Path) -> None:
    trainer = ProcessTrainer(tmp_path)
    trainer.start(request())
    (first,) = children()
    trainer.start(request())
    assert children() == [first], "no twin"
    trainer.start(request("somebody else"))
    assert first not in children()
    (second,) = children()
    assert second.pid != first.pid
    second.kill()


def test_a_training_that_hangs_is_ended_after_its_declared_time_and_the_next_runs(tmp_path: Path) -> None:
    now = 0.0
    trainer = ProcessTrainer(tmp_path, clock=lambda: now)
    trainer.start(request(max_duration_ms=5_000))
    (child,) = children()
    child.suspend()
    now = 4.9
    assert trainer.poll() is None
    now = 5.0
    result = trainer.poll()
    assert result is not None and not result.finished and result.reason.startswith("timed out after 5 s")
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    trainer.start(request("another", max_duration_ms=5_000))
    deadline = time.monotonic() + DEADLINE_S
    while (result := trainer.poll()) is None:
        assert time.monotonic() < deadline
    assert "ended with 1" in result.reason, "it ran"


def test_the_next_task_finds_the_libraries_loaded_and_a_crash_costs_only_its_own(tmp_path: Path) -> None:
    child, said = WarmChild("tests.unit.services.retraining.echo_child"), {}
    for name in ("one", "two", "crash", "three"):
        request_file, result, log = (tmp_path / f"{name}.{end}" for end in ("json", "result.json", "log"))
        request_file.write_text(name)
        child.start(request_file, result, log)
        deadline = time.monotonic() + DEADLINE_S
        while not result.exists() and child.exit_code() is None:
            assert time.monotonic() < deadline
        said[name] = (result.read_text() if result.exists() else "", child.exit_code(), log.read_text())
    child.kill()
    (one, _, log_one), (two, _, log_two), crash, (three, _, _) = said.values()
    assert one == two != three, "one process for the first two, another after the crash"
    assert (log_one, log_two) == ("one\n", "two\n"), "each task has a log of its own"
    assert crash[:2] == ("", 1) and "expected no crash" in crash[2]


PROGRAM = """
import sys, signal
from pathlib import Path
from tidemill.services.retraining.processes.trainer import ProcessTrainer
from tests.unit.services.retraining.test_trainer import request
trainer = ProcessTrainer(Path(sys.argv[1]))
trainer.start(request())
print(trainer._child._process.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_training_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    child.suspend()  # so that it cannot end by itself first
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + DEADLINE_S
    while psutil.pid_exists(child.pid) and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
