"""The guide from a table to a live model, run as it stands there: a file, an application, a backtest; in the long form a live answer, too."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from tests.integration.test_up import module_of, running
from tests.patience import patient, until
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.pipeline import stage_processes
from tidemill.services.cli.__main__ import app
from tidemill.shared.service.stage import FUSED

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide" / "from-a-table.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.*)\n```$", GUIDE, re.MULTILINE)
DEADLINE_S = patient(200.0)


def live(folder: Path, command: str, environment: dict[str, str]) -> tuple[list[str], int]:
    """Run `up` until it has shown its first prediction, sending the event that it suggests, and end it with Ctrl-C: nothing outlives it.

    Returns what it printed, and its exit code.
    """
    words = [sys.executable, "-m", *shlex.split(command)]
    given = {**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "400"}
    process = subprocess.Popen(words, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    guard = threading.Timer(DEADLINE_S, process.kill)
    guard.start()
    lines: list[str] = []
    family: list[psutil.Process] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip())
            if line.strip().startswith("curl "):
                curl = shlex.split(line)
                answer = httpx.post(curl[-1], content=curl[curl.index("-d") + 1], headers={"content-type": "application/json"}, timeout=patient(60))
                assert answer.status_code == 202, answer.text
            if line.startswith("First prediction"):
                family = psutil.Process(process.pid).children(recursive=True)
                services = (*stage_processes(FUSED), "gateway", "alerts")
                assert {f"tidemill.services.{name}" for name in services} <= {module_of(child) for child in family}
                os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        code = process.wait(patient(60))
        until(lambda: not any(map(running, family)), lambda: f"the end of all: {[child for child in family if running(child)]}", 30)
        return lines, code
    finally:
        guard.cancel()
        process.kill()
        process.wait()


@pytest.mark.lasts(20)
def test_from_a_file_to_a_backtest_with_a_promotion_as_the_guide_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline_as_the_guide_says(tmp_path, monkeypatch)


@pytest.mark.long
@pytest.mark.lasts(128)
@pytest.mark.timeout(400)
def test_from_a_file_to_a_live_answer_as_the_guide_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, infrastructure: Infrastructure) -> None:
    begun = time.monotonic()
    offline_as_the_guide_says(tmp_path, monkeypatch)
    lines, code = live(tmp_path, COMMANDS[-1], {**os.environ, **infrastructure.environment})
    shown = [line for line in lines if line.startswith("First prediction")]
    assert code == 0 and len(shown) == 1 and "by version" in shown[0], "\n".join(lines)
    print(f"from the file to a live answer, backtest included: {time.monotonic() - begun:.0f} s")


def offline_as_the_guide_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the commands before `up`: the last of them is the backtest."""
    monkeypatch.chdir(folder)
    table, *offline, _ = COMMANDS
    subprocess.run([sys.executable, *shlex.split(table)[1:]], check=True, timeout=patient(120))
    for command in offline:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)
        words = " ".join(result.output.split())
    assert re.search(r"predictions 1,250 .*promotions [1-9]", words)
