"""Trainings as child processes: a killed one is started again, none gets a twin, none outlives its parent."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from tests.patience import patient
from tidemill.services.retraining.processes import job
from tidemill.services.retraining.processes.job_files import PASSING, JobNews, JobRequest, JobResult, progress_file, trials_folder
from tidemill.services.retraining.processes.trainer import ProcessTrainer
from tidemill.services.retraining.processes.warm_child import WarmChild

DEADLINE_S = patient(30.0)


def request(champion: str = "", max_duration_ms: int = 60_000, retries: int = 3) -> JobRequest:
    """A job that fails as soon as it looks at its application."""
    asked = {"decision_id": "d", "journal_time": 0, "model": "m"}
    return JobRequest("nowhere", "lake", "artifacts", asked, champion, "", max_duration_ms, retries=retries, retry_delay_ms=1_000)


def pause(deadline: float) -> None:
    """Leave the processor to the training that is waited for."""
    assert time.monotonic() < deadline
    time.sleep(0.01)


def children() -> list[psutil.Process]:
    """Trainings that run; those that have ended and were not looked at yet are left out."""
    return [child for child in psutil.Process().children() if _is_training(child)]


def _is_training(child: psutil.Process) -> bool:
    try:
        return child.status() != psutil.STATUS_ZOMBIE and "tidemill.services.retraining.processes.job" in child.cmdline()
    except psutil.ZombieProcess:  # It has ended between the two looks.
        return False


def test_a_trainer_that_is_closed_leaves_no_process(tmp_path: Path) -> None:
    trainer = ProcessTrainer(tmp_path)
    trainer.start(request())
    assert len(children()) == 1
    trainer.close()
    assert not children()


def test_a_killed_training_is_begun_again_each_time_later_and_tells_so_until_its_retries_are_spent(tmp_path: Path) -> None:
    now, killed, told, result = 0.0, set[int](), list[JobNews](), None
    trainer = ProcessTrainer(tmp_path, clock=lambda: now)
    trainer.start(request(retries=2))
    trials = trials_folder(tmp_path / "d.json")
    trials.mkdir()
    deadline = time.monotonic() + DEADLINE_S
    while result is None:
        assert trials.exists()
        pause(deadline)
        for child in children():
            os.kill(child.pid, signal.SIGKILL)
            killed.add(child.pid)
        result = trainer.poll()
        if news := trainer.news():
            told += news
            now += 0.4 * 2 ** len(told)
            assert trainer.poll() is None and not children(), "not yet"
            now += 1.3 * 2 ** len(told)
    assert len(killed) == 3 and not trials.exists(), "nobody comes back for them"
    assert [(news.event, news.details["attempt"], news.details["of"]) for news in told] == [("retrying", "1", "3"), ("retrying", "2", "3")]
    waits = [float(news.details["wait_s"]) for news in told]
    assert 0.5 <= waits[0] < 1.5 and 1.0 <= waits[1] < 3.0 and "killed by signal 9" in told[0].reason
    assert not result.finished and "killed by signal 9, attempt 3 of 3" in result.reason


def test_what_was_tried_before_a_restart_of_the_worker_counts(tmp_path: Path) -> None:
    now = 0.0
    for attempt in (1, 2):
        trainer = ProcessTrainer(tmp_path, clock=lambda: now)
        trainer.start(request(retries=2))
        kill_children()
        assert [news.details["attempt"] for news in until_told(trainer)] == [str(attempt)]
    last = ProcessTrainer(tmp_path)
    last.start(request(retries=2))
    kill_children()
    deadline = time.monotonic() + DEADLINE_S
    while (result := last.poll()) is None:
        pause(deadline)
    assert "attempt 3 of 3" in result.reason


def test_a_training_whose_files_do_not_answer_is_begun_again(tmp_path: Path) -> None:
    now = 0.0
    trainer = ProcessTrainer(tmp_path, clock=lambda: now)
    # No file system takes such a name: what the kernel says is an error of the disk, not of the training.
    trainer.start(replace(request(retries=1), application="x" * 300))
    (told,) = until_told(trainer)
    assert f"ended with {PASSING}" in told.reason and told.details["of"] == "2"
    now, deadline = 10.0, time.monotonic() + DEADLINE_S
    while (result := trainer.poll()) is None:
        pause(deadline)
    assert not result.finished and f"ended with {PASSING}, attempt 2 of 2" in result.reason


def kill_children() -> None:
    for child in children():
        child.kill()


def until_told(trainer: ProcessTrainer) -> list[JobNews]:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        assert trainer.poll() is None
        if news := [one for one in trainer.news() if one.event == "retrying"]:
            return news
        pause(deadline)


def test_a_training_that_fails_by_itself_says_why_at_once(tmp_path: Path) -> None:
    trainer = ProcessTrainer(tmp_path)
    trainer.start(request())
    deadline = time.monotonic() + DEADLINE_S
    while (result := trainer.poll()) is None:
        pause(deadline)
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


def test_a_training_that_hangs_is_ended_after_its_declared_time_and_begun_again_until_its_retries_are_spent(tmp_path: Path) -> None:
    now = 0.0
    trainer = ProcessTrainer(tmp_path, clock=lambda: now)
    trainer.start(request(max_duration_ms=5_000, retries=1))
    (child,) = children()
    child.suspend()
    now = 4.9
    assert trainer.poll() is None and trainer.news() == []
    now = 5.0
    assert trainer.poll() is None
    (told,) = trainer.news()
    assert told.event == "retrying" and told.reason.startswith("timed out after 5 s (training.max_duration); again in 1 s")
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    now = 7.0
    assert trainer.poll() is None
    (second,) = children()
    second.suspend()
    now = 11.9
    assert trainer.poll() is None, "the second attempt has the whole time"
    now = 12.0
    result = trainer.poll()
    assert result is not None and not result.finished and result.reason == "timed out after 5 s (training.max_duration), attempt 2 of 2"
    trainer.start(request("another", max_duration_ms=5_000))
    deadline = time.monotonic() + DEADLINE_S
    while (result := trainer.poll()) is None:
        pause(deadline)
    assert "ended with 1" in result.reason, "it ran"


def test_each_attempt_tells_its_steps_also_the_one_it_was_killed_at(tmp_path: Path) -> None:
    now, told, attempts = 0.0, list[tuple[str, str]](), 0
    trainer = ProcessTrainer(tmp_path, clock=lambda: now)
    trainer.start(request(retries=1))
    result, deadline = None, time.monotonic() + DEADLINE_S
    while result is None:
        pause(deadline)
        for child in children():
            child.suspend()
            # As the child writes it: the same step in both attempts.
            progress_file(tmp_path / "d.json").write_text('["reading rows", 0, 1]')
            child.kill()
            attempts += 1
            wait_for(child)
        result = trainer.poll()
        told += [(news.event, news.details["attempt"]) for news in trainer.news()]
        now += 2.0 * (len(told) > 1)
    assert attempts == 2
    assert told == [("step", "1"), ("retrying", "1"), ("step", "2")]


def wait_for(child: psutil.Process) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        pause(deadline)


def test_the_next_task_finds_the_libraries_loaded_and_a_crash_costs_only_its_own(tmp_path: Path) -> None:
    child, said = WarmChild("tests.unit.services.retraining.echo_child"), {}
    for name in ("one", "two", "crash", "three"):
        request_file, result, log = (tmp_path / f"{name}.{end}" for end in ("json", "result.json", "log"))
        request_file.write_text(name)
        child.start(request_file, result, log)
        deadline = time.monotonic() + DEADLINE_S
        while not result.exists() and child.exit_code() is None:
            pause(deadline)
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
        pause(deadline)


def test_a_result_says_what_all_attempts_took_also_those_that_were_killed(tmp_path: Path) -> None:
    """Held against the kernel's own account of the children, over a restart of the worker between the attempts."""
    now = 0.0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    trainer = ProcessTrainer(tmp_path, clock=lambda: now)
    trainer.start(request(retries=2))
    deadline = time.monotonic() + DEADLINE_S
    while not (seen := [child for child in children() if sum(child.cpu_times()[:2]) > 0.2]):
        assert trainer.poll() is None
        pause(deadline)
    trainer.poll()
    seen[0].kill()
    until_told(trainer)
    took = float((tmp_path / "d.cpu").read_text())
    assert took > 0.1
    second = ProcessTrainer(tmp_path, clock=lambda: now)
    second.start(request(retries=2))
    while (result := second.poll()) is None:
        pause(deadline)
    second_child = psutil.Process().children()
    for child in second_child:
        child.kill()
        child.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert took <= result.cpu_s <= whole + 0.1


def test_the_time_of_a_training_is_its_own_and_not_that_of_those_before_it(tmp_path: Path) -> None:
    """The child stays; a result that was computed before is taken with its time."""
    target = tmp_path / "result.json"
    source = tmp_path / "d.json"
    source.write_text(json.dumps(asdict(request())))

    def busy(*_: object) -> JobResult:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        return JobResult(finished=True, reason="", version="v", passed=True)

    sum(number * number for number in range(2_000_000))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(job, "run", busy)
        job.work(source, target)
    assert 0.3 <= json.loads(target.read_text())["cpu_s"] < 0.6
