"""The supervisor: restarts with a pause, gives up on what cannot be helped, says why."""

import time
from pathlib import Path

import pytest

from tests.patience import patient
from tidemill.runs.supervisor import ServiceFailed, ServiceSpec, Supervisor

DEADLINE_S = patient(20.0)


def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, crash_limit: int = 3) -> Supervisor:
    (tmp_path / "tried.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Supervisor(tmp_path / "logs", {"RUNS": str(tmp_path / "runs")}, modules=(), crash_limit=crash_limit)
    made.start([ServiceSpec("tried", "tried")])
    return made


def fail(watched: Supervisor) -> str:
    deadline = time.monotonic() + DEADLINE_S
    with pytest.raises(ServiceFailed) as caught:
        while time.monotonic() < deadline:
            watched.check()
    return str(caught.value)


RUN = "import os, sys, time\nwith open(os.environ['RUNS'], 'a') as runs:\n    print(time.monotonic(), file=runs)\n"


def test_a_misconfigured_service_is_not_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = supervisor(tmp_path, monkeypatch, RUN + "sys.stderr.write('app.yaml:3: expected\\n'); sys.exit(2)")
    message = fail(watched)
    assert "settings or the application are wrong" in message and "app.yaml:3" in message
    assert len((tmp_path / "runs").read_text().split()) == 1


def test_a_crashing_service_is_restarted_with_growing_pauses_and_then_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = supervisor(tmp_path, monkeypatch, RUN + "sys.stderr.write('no luck\\n'); sys.exit(1)")
    message = fail(watched)
    assert "4 times in a row" in message and "no luck" in message
    at = [float(line) for line in (tmp_path / "runs").read_text().split()]
    assert len(at) == 4
    assert at[2] - at[1] >= 0.25 and at[3] - at[2] >= 0.5


def test_a_service_that_comes_further_with_each_crash_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a process leaves in its note (`DeathNote.advanced`), without the seconds that importing it takes.
    program = (
        RUN
        + "import struct\ncount = len(open(os.environ['RUNS']).read().split())\n"
        + "with open(os.path.join(os.environ['TIDEMILL_RUNNER__STATE_FOLDER'], 'app-tried-0.note'), 'wb') as note:\n"
        + "    note.write(struct.pack('<8sQI', b'tidemil1', min(count, 5), 0))\nsys.exit(1)"
    )
    (tmp_path / "state").mkdir()
    monkeypatch.setattr("tidemill.runs.supervisor._BACK_OFF_S", 0.0)
    monkeypatch.setenv("TIDEMILL_RUNNER__STATE_FOLDER", str(tmp_path / "state"))
    watched = supervisor(tmp_path, monkeypatch, program, crash_limit=2)
    assert "3 times in a row" in fail(watched)
    # Five that came further, of which the last counts as the first crash without.
    assert len((tmp_path / "runs").read_text().split()) == 7


def test_a_killed_service_comes_back_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = supervisor(tmp_path, monkeypatch, "import time\ntime.sleep(600)")
    before = watched.kill("tried")
    watched.check()
    watched.check()
    assert watched.pids()["tried"] != before and watched.restarts() == {"tried": 1}
    watched.stop()


def test_what_stops_last_is_ended_when_the_others_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """import os, signal, sys, time
def end(number, frame):
    with open(os.environ['RUNS'], 'a') as runs:
        print(os.environ['NAME'], 'asked', file=runs, flush=True)
        time.sleep(0.2)
        print(os.environ['NAME'], 'ended', file=runs, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(os.environ['RUNS'] + os.environ['NAME'], 'w').close()
time.sleep(600)
"""
    (tmp_path / "tried.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Supervisor(tmp_path / "logs", {"RUNS": str(tmp_path / "runs")}, modules=())
    made.start([ServiceSpec("archive", "tried", {"NAME": "archive"}, stops_last=True), ServiceSpec("scoring", "tried", {"NAME": "scoring"})])
    deadline = time.monotonic() + DEADLINE_S
    while len(list(tmp_path.glob("runs*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    made.stop()
    assert (tmp_path / "runs").read_text().splitlines() == ["scoring asked", "scoring ended", "archive asked", "archive ended"]


def test_one_that_is_not_vital_is_started_again_and_again_and_the_others_work_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.runs.supervisor._BACK_OFF_S", 0.0)
    (tmp_path / "tried.py").write_text(RUN + "sys.exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    watched = Supervisor(tmp_path / "logs", {"RUNS": str(tmp_path / "runs")}, modules=(), crash_limit=2)
    watched.start([ServiceSpec("tried", "tried", vital=False)])
    deadline = time.monotonic() + DEADLINE_S
    while watched.restarts()["tried"] < 5:
        assert time.monotonic() < deadline
        watched.check()
    watched.stop()


def test_a_replaced_service_has_its_new_variables_for_good_and_a_halted_one_stays_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, time\nwith open(os.environ['RUNS'], 'a') as runs:\n    print(os.environ.get('READS', 'first'), file=runs)\ntime.sleep(60)\n"
    watched = supervisor(tmp_path, monkeypatch, program)

    def reads(count: int) -> list[str]:
        deadline = time.monotonic() + DEADLINE_S
        while len(lines := ((tmp_path / "runs").read_text().split() if (tmp_path / "runs").exists() else [])) < count:
            assert time.monotonic() < deadline
            watched.check()
        return lines

    try:
        assert reads(1) == ["first"]
        watched.replace("tried", {"READS": "second"})
        assert reads(2) == ["first", "second"]
        watched.kill("tried")
        assert reads(3) == ["first", "second", "second"]
        watched.halt("tried")
        pid = watched.pids()["tried"]
        watched.check()
        assert watched.pids()["tried"] == pid and watched.restarts() == {"tried": 1}
    finally:
        watched.stop()
