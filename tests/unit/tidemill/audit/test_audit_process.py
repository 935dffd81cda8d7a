"""The audit's own process: its failure is the caller's, and it does not outlive the caller."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.patience import patient
from tidemill.audit.audit_process import AuditFailedError, auditing
from tidemill.shared.observability.settings import KafkaSettings

DEADLINE_S = patient(30.0)
PROGRAM = """
import multiprocessing, signal
from pathlib import Path
from tidemill.audit.audit_process import auditing
from tidemill.shared.observability.settings import KafkaSettings
if __name__ == "__main__":
    with auditing(Path("nowhere"), KafkaSettings(), "", "") as audit:
        audit.exception()
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        signal.pause()
"""


def test_what_the_audit_raises_reaches_the_caller() -> None:
    with auditing(Path("nowhere"), KafkaSettings(), "", "") as audit, pytest.raises(AuditFailedError, match=r"ApplicationError: .*nowhere"):
        audit.result(DEADLINE_S)


@pytest.mark.lasts(5)
def test_it_does_not_outlive_a_killed_caller(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    caller = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={"PYTHONPATH": str(Path.cwd())}
    )
    assert caller.stdout is not None
    child = psutil.Process(int(caller.stdout.readline()))
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    caller.stdout.close()
    deadline = time.monotonic() + DEADLINE_S
    while psutil.pid_exists(child.pid) and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
