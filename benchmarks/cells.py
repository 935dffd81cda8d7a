"""One measurement that is repeated: which system, which workload, what is measured, and what came of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Run = dict[str, Any]


@dataclass(slots=True)
class Cell:
    """A place of the table.

    Attributes
    ----------
    measure
        ``throughput``, ``latency`` or ``system`` (W6).
    execute
        Makes one run, given its round; returns its figures, by row where one run fills several rows.
    rounds
        Runs at most.
    runs
        What the runs gave.
    failed
        Why it could not run; the first failure ends the cell.
    """

    system: str
    workload: str
    measure: str
    execute: Callable[[int], Run]
    rounds: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    failed: str | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"{self.workload} {self.system} ({self.measure})"

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `results.json`."""
        return {
            "system": self.system, "workload": self.workload, "measure": self.measure, **self.facts, "failed": self.failed, "runs": self.runs,
        }  # fmt: skip


def interleave(cells: list[Cell], budget_s: float, begun: float, say: Callable[[str], None], after: Callable[[], None]) -> None:
    """Run the cells round by round, every cell once before any cell twice, until the budget is used up.

    A run is not begun when it would (judging by the cell's last) end after the budget; the table says how many runs each cell got.

    Parameters
    ----------
    begun
        `time.monotonic()` at the start of the benchmark.
    after
        Called after every run, to save what there is.
    """
    expected_s = 45.0
    for number in range(max(cell.rounds for cell in cells)):
        for cell in cells:
            if number >= cell.rounds or cell.failed is not None:
                continue
            started = time.monotonic()
            if started - begun + (cell.seconds or expected_s) > budget_s:
                if number == 0:
                    cell.failed = f"not run: the time of {budget_s / 60:.0f} minutes was used up"
                continue
            try:
                run = cell.execute(number)
            except Exception as problem:
                cell.failed = f"could not run: {problem}"
                say(f"[{_clock(begun)}] {cell.name}: FAILED: {problem}")
            else:
                cell.runs.append(run)
                say(f"[{_clock(begun)}] {cell.name}, run {number + 1}: {_brief(run)}")
            cell.seconds = time.monotonic() - started
            after()


def _clock(begun: float) -> str:
    elapsed = int(time.monotonic() - begun)
    return f"{elapsed // 60:02d}:{elapsed % 60:02d}"


def _brief(run: Run) -> str:
    shown = ("events_per_cpu_s", "events_per_s", "p50_ms", "p99_ms", "peak_memory_mb")
    return ", ".join(f"{name} {run[name]:,.1f}" if run[name] < 1000 else f"{name} {run[name]:,.0f}" for name in shown if name in run) or str(run)
