"""The benchmark from beginning to end: environments, servers, input, interleaved runs, results."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import model_cost
from benchmarks.cells import Cell, interleave
from benchmarks.laboratory import Laboratory, Say
from benchmarks.oracle import expected_vectors
from benchmarks.peer_cells import PeerCells, commands
from benchmarks.processes import cores
from benchmarks.recovery import ENTITIES, RecoveryCells
from benchmarks.scale_out import ScaleOutCells
from benchmarks.systems import PEERS, System
from benchmarks.tidemill_cells import TidemillCells
from benchmarks.whole_system import WholeSystemCells
from tidemill.deploy.embedded.folders import project_root
from tidemill.shared.version import CODE_VERSION

FULL_BUDGET_S, QUICK_BUDGET_S = 54 * 60.0, 7 * 60.0
EVENTS = 1_000_000
FULL_ROUNDS = 5
RATES = (1_000, 10_000)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to measure.

    Attributes
    ----------
    quick
        Tidemill and the pass-through alone, one run each.
    only, workloads, measures
        Systems whose name contains one of these words, these workloads, these measures (`throughput`, `latency`, `system`, `recovery`,
        `scale-out`, `models`); all when empty.
    events, rounds
        Input events of a run at full speed and runs of a cell, at most; None for the usual numbers.
    minutes
        After which no run is begun that would end later: the table says how many runs each cell got. None for the usual budget.
    """

    quick: bool = False
    only: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    events: int | None = None
    rounds: int | None = None
    minutes: float | None = None

    @property
    def is_whole(self) -> bool:
        """Say whether the result is worth publishing: nothing was left out."""
        return self == Choice(minutes=self.minutes)

    def names(self, system: str) -> bool:
        """Say whether a system was asked for."""
        return not self.only or any(word.lower() in system.lower() for word in self.only)

    def includes(self, cell: Cell) -> bool:
        """Say whether a cell was asked for."""
        told = (not self.workloads or cell.workload in self.workloads) and (not self.measures or cell.measure in self.measures)
        return told and self.names(cell.system)


class Suite:
    """One benchmark run."""

    def __init__(self, choice: Choice, say: Say) -> None:
        self._choice, self._say = choice, say
        self._folder = project_root() / ".tidemill" / "bench"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._events = choice.events or EVENTS
        self._oracle: dict[str, NDArray[np.float64]] = {}
        self._cells: list[Cell] = []
        self._started = datetime.now(UTC)

    def run(self) -> dict[str, Any]:
        """Measure everything and return what belongs into `results.json`."""
        begun = time.monotonic()
        peers = self._peers()
        made, failed = commands(self._folder, peers, self._say)
        rounds = self._choice.rounds or (1 if self._choice.quick else FULL_ROUNDS)
        with Laboratory(self._folder, self._say) as laboratory:
            laboratory.prepare_input({peer.events for peer in peers} | {self._events})
            expected = self._expected(laboratory)
            tidemill = TidemillCells(laboratory, self._events, expected, rounds)
            others = PeerCells(laboratory, peers, made, failed, expected, rounds)
            streams = next((peer for peer in peers if peer.name == "Kafka Streams"), None)
            entities = min(ENTITIES, self._events)
            latency, yardsticks = others.latency(RATES), {peer.name for peer in peers if peer.environment_name == "pass_through"}
            cells = [
                *tidemill.cells(),
                *others.throughput(),
                *WholeSystemCells(laboratory, self._events, rounds).cells(),
                *tidemill.latency_cells(RATES),
                *(cell for cell in latency if cell.system in yardsticks),
                *model_cost.cells(rounds),
                *ScaleOutCells(laboratory, self._events, rounds).cells(),
                *RecoveryCells(laboratory, entities, streams, made.get("kafka-streams"), failed.get("kafka-streams")).cells(),
                # Nothing is held against these, and they take the longest: what a short budget leaves out.
                *(cell for cell in latency if cell.system not in yardsticks),
            ]
            self._cells = [cell for cell in cells if self._choice.includes(cell)]
            usual_s = QUICK_BUDGET_S if self._choice.quick else FULL_BUDGET_S
            interleave(self._cells, self._choice.minutes * 60 if self._choice.minutes else usual_s, begun, self._say, self._save)
        return self._results(time.monotonic() - begun)

    def _peers(self) -> list[System]:
        quick = self._choice.quick
        chosen = [peer for peer in PEERS if self._choice.names(peer.name) and (not quick or peer.environment_name == "pass_through")]
        return [replace(peer, events=min(peer.events, self._events)) for peer in chosen]

    def _expected(self, laboratory: Laboratory) -> Callable[[int], dict[str, NDArray[np.float64]]]:
        def first(n: int) -> dict[str, NDArray[np.float64]]:
            if not self._oracle:
                self._say("computing the oracle's vectors ...")
                self._oracle = expected_vectors(laboratory.payments)
            return {name: column[:n] for name, column in self._oracle.items()}

        return first

    def _results(self, elapsed_s: float) -> dict[str, Any]:
        system_core, driver_core = cores()
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "minutes": round(elapsed_s / 60, 1),
            "quick": self._choice.quick,
            "code_version": CODE_VERSION,
            "commit": _commit(),
            "machine": {
                "processor": processor(),
                "cores": os.cpu_count(),
                "system_core": system_core,
                "driver_core": driver_core,
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
            "events": self._events,
            "cells": [cell.to_dict() for cell in self._cells],
        }

    def _save(self) -> None:
        (self._folder / "results.partial.json").write_text(json.dumps(self._results(0.0), indent=1), encoding="utf-8")


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """Name the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
