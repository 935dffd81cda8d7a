"""``make simulate FAULTS=200000 SEED=1``: seeds one after the other until so many faults have struck; goes on where it stopped."""

import argparse
import json
import logging
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from campaigns.simulate.run import RunResult, run_seed
from campaigns.simulate.shrink import as_test, shrunk

LENGTH = 1_500


def main() -> int:
    """Run a campaign; exit code 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--faults", type=int, default=200_000, help="faults that must have struck in all, those of earlier chunks included")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; every run takes the next")
    parser.add_argument("--length", type=int, default=LENGTH, help="actions per run")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="CPU seconds after which this chunk ends")
    parser.add_argument("--folder", type=Path, default=Path(".tidemill/simulate"), help="state, results and failing runs")
    parser.add_argument("--only", action="store_true", help="run the one seed and say what came of it")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.only:
        return _one(options.seed, options.length, options.folder)
    return Campaign(options.folder, options.seed, options.length).run(options.faults, options.seconds)


class Campaign:
    """Counts over all chunks, in a file that is rewritten after every run.

    Parameters
    ----------
    folder
        Holds ``results-<seed>-<length>.json`` and one file for each failing run.
    """

    def __init__(self, folder: Path, seed: int, length: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._length = folder, length
        self._path = folder / f"results-{seed}-{length}.json"
        self._counts: dict[str, Any] = {
            "first_seed": seed, "next_seed": seed, "length": length, "runs": 0, "faults": 0, "records": 0, "hostile_records": 0, "cpu_seconds": 0.0,
            "faults_by_kind": {}, "records_by_kind": {}, "ends_by_error": {}, "failures": [],
        }  # fmt: skip
        if self._path.exists():
            self._counts |= json.loads(self._path.read_text(encoding="utf-8"))

    def run(self, faults: int, seconds: float) -> int:
        """Go on until so many faults have struck in all, or the chunk's time is over."""
        begun = time.process_time()
        while self._counts["faults"] < faults and time.process_time() - begun < seconds:
            seed, before = self._counts["next_seed"], time.process_time()
            result = run_seed(seed, self._length)
            if result.violation:
                self._keep(seed, result)
            self._add(result, time.process_time() - before)
        self._say()
        return 1 if self._counts["failures"] else 0

    def _add(self, result: RunResult, cpu_s: float) -> None:
        counts = self._counts
        counts["next_seed"] += 1
        counts["runs"] += 1
        counts["cpu_seconds"] = round(counts["cpu_seconds"] + cpu_s, 2)
        counts["faults"] += sum(result.faults.values())
        counts["records"] += sum(result.records.values())
        for name, new in (("faults_by_kind", result.faults), ("records_by_kind", result.records), ("ends_by_error", result.ended)):
            counts[name] = dict(sorted((Counter(counts[name]) + new).items()))
        counts["hostile_records"] = sum(n for kind, n in counts["records_by_kind"].items() if kind not in ("order", "verdict", "customer"))
        counts["faults_per_cpu_hour"] = round(counts["faults"] / max(counts["cpu_seconds"], 0.01) * 3_600)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(counts, indent=1), encoding="utf-8")
        draft.replace(self._path)
        if counts["runs"] % 20 == 0:
            self._say()

    def _keep(self, seed: int, result: RunResult) -> None:
        path = _write_small(self._folder, seed, result)
        self._counts["failures"].append({"seed": seed, "violation": result.violation[:500], "kept": path.name})
        print(f"seed {seed}: {result.violation[:500]}\n  {path}", flush=True)

    def _say(self) -> None:
        counts = self._counts
        seeds = f"{counts['runs']} runs, seeds {counts['first_seed']} to {counts['next_seed'] - 1}"
        records = f"{counts['records']} records ({counts['hostile_records']} hostile)"
        pace = f"{counts['cpu_seconds']:.0f} CPU s, {counts.get('faults_per_cpu_hour', 0)} faults per CPU hour"
        print(f"{seeds}: {counts['faults']} faults, {records}, {len(counts['failures'])} failures, {pace}", flush=True)


def _write_small(folder: Path, seed: int, result: RunResult) -> Path:
    small, again = shrunk(result)
    path = folder / f"seed-{seed}.json"
    path.write_text(as_test(f"seed {seed}", again if again.violation else result, small), encoding="utf-8")
    return path


def _one(seed: int, length: int, folder: Path) -> int:
    result = run_seed(seed, length)
    print(f"seed {seed}, {len(result.actions)} actions, {asdict(result.settings)}, fingerprint {result.fingerprint}")
    print(f"{sum(result.faults.values())} faults, {sum(result.records.values())} records, drained in {result.rounds} rounds")
    if not result.violation:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{result.violation}\n{_write_small(folder, seed, result)}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
