"""The peers' rows: every workload at full speed, W4 at fixed rates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.cells import Cell, Run
from benchmarks.environments import java_peer, python_peer
from benchmarks.laboratory import Laboratory, Say, pass_through_command
from benchmarks.oracle import compare
from benchmarks.results import decode_vectors
from benchmarks.systems import System

_PROGRAMS = {"kafka-streams": "KafkaStreamsPeer", "flink": "FlinkPeer"}
_FEW, _LATENCY = 2, 3  # rounds of the workloads other than W4, and of latency where a bar is held against it
Expected = Callable[[int], Mapping[str, NDArray[np.float64]]]


def commands(folder: Path, peers: Sequence[System], say: Say) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Make the peers' environments; returns the command of each that could be made, and why the others could not."""
    made: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    for name in dict.fromkeys(peer.environment_name for peer in peers):
        try:
            if name == "pass_through":
                made[name] = pass_through_command()
            elif name in _PROGRAMS:
                made[name] = java_peer(folder, name, _PROGRAMS[name], say)
            else:
                made[name] = python_peer(folder, name, say)
        except Exception as problem:  # whatever it is, the peer's row says it
            failed[name] = f"could not run: {problem}"
            say(f"{name}: {failed[name]}")
    return made, failed


class PeerCells:
    """Makes the peers' cells.

    Parameters
    ----------
    made, failed
        As `commands` gives them.
    expected
        Gives the oracle's vectors of the first so many payments.
    rounds
        At most so many.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        peers: Sequence[System],
        made: Mapping[str, list[str]],
        failed: Mapping[str, str],
        expected: Expected,
        rounds: int,
    ) -> None:
        self._laboratory = laboratory
        self._peers = peers
        self._made = made
        self._failed = failed
        self._expected = expected
        self._rounds = rounds

    def throughput(self) -> list[Cell]:
        """At full speed, the heaviest workload of each system first."""
        cells = []
        for peer in self._peers:
            for workload in reversed(peer.workloads):
                rounds = min(self._rounds, peer.rounds, 5 if workload == "W4" else _FEW)
                cells.append(self._cell(peer, workload, "throughput", partial(self._run, peer, workload), rounds, {"events": peer.events}))
        return cells

    def latency(self, rates: Sequence[int]) -> list[Cell]:
        """At fixed rates; the pass-through, which the bars are held against, as often as Tidemill."""
        cells = []
        for peer in self._peers:
            workload = "W4" if "W4" in peer.workloads else "W0"
            rounds = min(self._rounds, _LATENCY if peer.environment_name == "pass_through" else 1)
            for rate in rates if peer.latency else ():
                cells.append(self._cell(peer, workload, "latency", partial(self._time, peer, workload, rate), rounds, {"events_per_s": rate}))
        return cells

    def _cell(self, peer: System, workload: str, measure: str, execute: Callable[[int], Run], rounds: int, facts: Mapping[str, int]) -> Cell:
        interval = f"{peer.commit_interval_ms} ms" if peer.commit_interval_ms else peer.usual_interval
        cell = Cell(peer.name, workload, measure, execute, rounds, {"guarantee": peer.guarantee, "commit_interval": interval, **facts})
        cell.failed = self._failed.get(peer.environment_name)
        return cell

    def _run(self, peer: System, workload: str, number: int) -> Run:
        checked = workload == "W4" and number == 0
        finished = self._laboratory.throughput(peer, self._made[peer.environment_name], workload, checked)
        run: Run = asdict(finished.figures)
        if checked:
            numbers, vectors = decode_vectors(self._laboratory.registry, finished.results)
            run["oracle"] = asdict(compare(self._expected(peer.events), numbers, vectors))
        return run

    def _time(self, peer: System, workload: str, rate: int, number: int) -> Run:
        return self._laboratory.latency(peer, self._made[peer.environment_name], workload, rate).to_dict()
