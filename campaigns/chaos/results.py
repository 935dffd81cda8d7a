"""What the chunks of a campaign found, in one file that is whole at any time."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.chaos.chunk import ChunkResult

MET = ("scored in shadow", "answered by a canary", "in an A/B test")
"""How a request meets a candidate, as the books of trials count it."""
ENOUGH_MOVES = 50


class Results:
    """The file of a campaign: read at its start, written after each chunk.

    Parameters
    ----------
    file
        JSON; the campaign goes on from it.
    """

    def __init__(self, file: Path, seed: int) -> None:
        self.file, self._seed = file, seed
        self.chunks: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["chunks"] if file.exists() else []

    @property
    def struck(self) -> int:
        """Faults so far."""
        return sum(len(chunk["faults"]) for chunk in self.chunks)

    @property
    def failed(self) -> int:
        """Chunks with problems."""
        return sum(bool(chunk["problems"]) for chunk in self.chunks)

    @property
    def trials(self) -> dict[str, int]:
        """Requests that met a candidate, by how, over all chunks."""
        lasts = [chunk["checkpoints"][-1] for chunk in self.chunks if chunk["checkpoints"]]
        return {name: sum(last.get(name, 0) for last in lasts) for name in MET}

    @property
    def untested(self) -> list[str]:
        """How no request met a candidate, although so many faults struck as candidates moved that some should have."""
        moved = sum("candidate moves" in fault["kind"] for chunk in self.chunks for fault in chunk["faults"])
        return [name for name, count in self.trials.items() if not count] if moved >= ENOUGH_MOVES else []

    @property
    def endings(self) -> dict[str, int]:
        """Processes that ended by themselves over all chunks, by stage and reason."""
        total = Counter[str]()
        for chunk in self.chunks:
            total.update(chunk.get("endings", {}))
        return dict(total.most_common())

    def add(self, chunk: ChunkResult) -> None:
        """Take a chunk in and write the file."""
        self.chunks.append(asdict(chunk))
        entry = {"seed": self._seed, "struck": self.struck, "failed": self.failed, "recovery_s": self.recovery(), "chunks": self.chunks}
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps(entry, indent=1), encoding="utf-8")
        draft.replace(self.file)

    def recovery(self) -> dict[str, dict[str, float]]:
        """Seconds from a strike until answers flowed again, by kind: how many, half of them, 99 of 100, the longest."""
        by_kind = defaultdict(list)
        for chunk in self.chunks:
            for fault in chunk["faults"]:
                if fault["recovered_s"] is not None:
                    by_kind[fault["kind"]].append(fault["recovered_s"])
                    by_kind["all"].append(fault["recovered_s"])
        return {kind: _figures(times) for kind, times in sorted(by_kind.items())}


def line(chunk: Mapping[str, Any]) -> str:
    """Return a chunk in one line."""
    times = [fault["recovered_s"] for fault in chunk["faults"] if fault["recovered_s"] is not None]
    figures = _figures(times) if times else {}
    last = chunk["checkpoints"][-1] if chunk["checkpoints"] else {}
    met = ", ".join(f"{last.get(name, 0):,} {name}" for name in MET)
    return (
        f"seed {chunk['seed']}: {len(chunk['faults'])} faults of {len({fault['kind'] for fault in chunk['faults']})} kinds"
        f" ({chunk['missed']} missed their moment), recovery p50 {figures.get('p50', 0):.1f} s, p99 {figures.get('p99', 0):.1f} s;"
        f" {last.get('good', 0):,} payments, raw {last.get('raw', 0):,} = {last.get('accepted', 0):,} accepted + {last.get('rejected', 0):,} rejected"
        f" + {last.get('duplicates', 0):,} duplicates; {met}; {chunk['restarts']} restarts,"
        f" {sum(chunk.get('endings', {}).values())} of processes that ended by themselves, {chunk['interventions']} interventions;"
        f" {len(chunk['problems'])} problems; {chunk['seconds']:.0f} s"
    )


def _figures(times: Iterable[float]) -> dict[str, float]:
    seconds = np.array(list(times))
    p50, p99 = np.percentile(seconds, (50, 99))
    return {"count": len(seconds), "p50": round(float(p50), 2), "p99": round(float(p99), 2), "longest": round(float(seconds.max()), 2)}
