"""A loop that hangs ends its process; one that goes on, or stops in good order, does not."""

import subprocess
import sys
import threading

from tests.patience import patient, until
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.stall import StallGuard


class Advancing(ProcessHealth):
    """Has advanced at every look, until it is to stand still."""

    looks = 0
    stands_still = False

    @property
    def advances(self) -> int:
        self.looks += not self.stands_still
        return self.looks

    @advances.setter
    def advances(self, count: int) -> None:
        pass


def test_progress_keeps_the_process_and_its_absence_ends_it_once() -> None:
    health, ended = Advancing(), threading.Event()
    with StallGuard(health, 0.03, ended.set, tick_s=0.01):
        until(lambda: health.looks > 20, "many times the limit, with progress at every look")
        assert not ended.is_set()
        health.stands_still = True
        assert ended.wait(patient(10))
    ended.clear()
    with StallGuard(health, 60, ended.set, tick_s=0.01):
        pass
    assert not ended.is_set()


def test_a_cold_process_has_longer_and_a_warm_one_does_not() -> None:
    health, ended = ProcessHealth(), threading.Event()
    with StallGuard(health, 0.1, ended.set, tick_s=0.01, cold_limit_s=60):
        assert not ended.wait(0.5)
        health.set_warm(True)
        assert ended.wait(patient(10))


def test_the_end_says_where_every_thread_was() -> None:
    program = (
        "import threading\n"
        "from tidemill.shared.observability.health import ProcessHealth\n"
        "from tidemill.shared.observability.stall import StallGuard\n"
        "def hangs():\n    threading.Event().wait()\n"
        "with StallGuard(ProcessHealth(), 0.1, tick_s=0.05):\n    hangs()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=patient(60), check=False)
    assert ended.returncode == 1
    assert "in hangs" in ended.stderr
