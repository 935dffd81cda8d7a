"""What a run and its history share: servers from the first use on, and a fork server that no supervisor ends."""

import json
from pathlib import Path

import psutil
import pytest

from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.runs.instance import FILE, InstanceError
from tidemill.runs.run_servers import RunServers
from tidemill.runs.supervisor import ServiceSpec, Supervisor


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder; its servers are given by address, and nothing is loaded for services."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "kafka.example:9092")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("tidemill.runs.run_servers.LOADED_ONCE", ())
    (tmp_path / "sleeps.py").write_text("import time\ntime.sleep(600)")
    return tmp_path / "run"


def test_services_that_are_started_anew_are_forked_from_the_same_process(folder: Path) -> None:
    others = set(psutil.Process().children())
    with RunServers(folder) as servers:
        assert set(psutil.Process().children()) <= others, "nothing is started before somebody asks"
        infrastructure = servers.infrastructure
        forks = set(psutil.Process().children()) - others
        pids = []
        for clock in ("replay", "live"):
            supervisor = Supervisor(folder / "logs", {"CLOCK": clock}, server=servers.forks)
            supervisor.start([ServiceSpec("sleeps", "sleeps")])
            pids.append(psutil.Process(supervisor.pids()["sleeps"]))
            assert {pids[-1].parent()} == forks == set(psutil.Process().children()) - others
            supervisor.stop()
        assert servers.infrastructure is infrastructure
    psutil.wait_procs([*forks, *pids], patient(10))
    # What earlier tests have left may end meanwhile.
    assert set(psutil.Process().children()) <= others and not any(one.is_running() for one in (*forks, *pids))


def test_the_folder_of_another_run_is_refused_before_anything_is_started(folder: Path) -> None:
    folder.mkdir()
    me = psutil.Process()
    running = {
        "application": "/apps/shop",
        "clock": "live",
        "addresses": {},
        "artifacts": "",
        "pid": me.pid,
        "started": me.create_time(),
    }
    (folder / FILE).write_text(json.dumps(running))
    others = set(psutil.Process().children())
    with RunServers(folder) as servers, pytest.raises(InstanceError, match=f"process {me.pid} runs shop from there"):
        servers.infrastructure  # noqa: B018 - asking starts them
    assert set(psutil.Process().children()) == others
