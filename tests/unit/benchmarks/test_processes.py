import os
import sys
import time
from pathlib import Path

from benchmarks.processes import SystemUnderTest, cores, cpu_s, peak_memory_mb
from tests.patience import patient

_BUSY = "import os, subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'])\nprint('up', flush=True)\nwhile True: pass\n"


def test_a_system_is_measured_with_its_children_on_its_core_and_ends_with_them(tmp_path: Path) -> None:
    core, _ = cores()
    system = SystemUnderTest([sys.executable, "-c", _BUSY], {}, tmp_path / "log", {core})
    try:
        deadline = time.monotonic() + patient(60)
        while (len(system.pids) < 2 or cpu_s(system.pids) < 0.2) and time.monotonic() < deadline:
            time.sleep(0.02)
        pids = system.pids
        assert len(pids) == 2
        assert all(os.sched_getaffinity(pid) == {core} for pid in pids)
        assert cpu_s(pids) >= 0.2
        assert peak_memory_mb(pids) > 5
        assert system.exit_code is None
        assert system.tail() == "up"
    finally:
        system.stop()
    deadline = time.monotonic() + patient(10)
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_alive(pid) for pid in pids)
    assert system.exit_code is not None


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
