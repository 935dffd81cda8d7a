"""Faults planted into a generated stream: the right finding, and at most one false incident, for each of many seeds."""

import argparse
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.planted_faults import DAY, EXPECTED, FAULT, PROMOTED, Table, judged, said_of
from tidemill.services.drift.domain.findings import Finding

SLICED = (("speed", "de"), ("amount", "it"))
"""A column whose units change in one country: 40 and 20 % of the rows."""
_PROMOTIONS = ((PROMOTED,), (PROMOTED, FAULT + 1.2))


def days_until_named(column: str, country: str, seed: int, promoted: Sequence[float]) -> float | None:
    """Return after how many days other units of a column in one country are named; None: not at all."""

    def fault(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
        rows.columns[column][after & (rows.country == country)] *= 1.609344

    said = said_of(fault, seed, slices=("country",), promoted=promoted)
    named = [one for one in said if isinstance(one, Finding) and (one.kind, one.subject, one.part) == ("units", column, f"country={country}")]
    return next((one.at.time_ms / DAY - FAULT for one in named if one.at.time_ms > FAULT * DAY), None)


def false_in_slices(seed: int, promoted: Sequence[float]) -> int:
    """Return how many findings of slices a stream in order brings."""
    said = said_of(EXPECTED["nothing"][0], seed, slices=("country",), promoted=promoted)
    return sum(isinstance(one, Finding) and bool(one.part) for one in said)


def judge_slices(seeds: int) -> bool:
    """Print when other units of a slice are named, with and without a promotion after them; returns whether streams in order bring no finding."""
    false = 0
    for promoted in _PROMOTIONS:
        false += sum(false_in_slices(seed, promoted) for seed in range(seeds))
        for column, country in SLICED:
            days = [days_until_named(column, country, seed, promoted) for seed in range(seeds)]
            found = [day for day in days if day is not None]
            print(f"{column} in {country}, promotions on days {promoted}: named in {len(found)} of {seeds}, after {sorted(found)} days", flush=True)
    print(f"streams in order: {false} findings of slices in {len(_PROMOTIONS) * seeds}", flush=True)
    return not false


def main() -> None:
    """Plant every fault with every seed, and print what was found and what was not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--fault", action="append", choices=sorted(EXPECTED), help="only these")
    parser.add_argument("--sliced", action="store_true", help="other units in one slice only, in place of the faults")
    chosen = parser.parse_args()
    kept = not chosen.sliced or judge_slices(chosen.seeds)
    for name in () if chosen.sliced else chosen.fault or EXPECTED:
        fault, expected = EXPECTED[name]
        hits, most, roots = 0, 0, Counter[str]()
        for seed in range(chosen.seeds):
            missed, false = judged(fault, expected, seed)
            hits, most = hits + (not missed), max(most, len(false))
            roots.update(one.split(":", 2)[0] + ":" + one.split(":", 2)[1].split(" [")[0] + " " + one.split("[", 1)[1].split("]")[0] for one in false)
        kept &= hits == chosen.seeds and most <= 1
        told = ", ".join(f"{count} x {root}" for root, count in sorted(roots.items())) or "none"
        print(f"{name}: found in {hits} of {chosen.seeds}; false incidents in all: {told}; in one seed at most {most}", flush=True)
    raise SystemExit(0 if kept else "expected the right finding each time and at most one false incident in a seed, and none of slices")


if __name__ == "__main__":
    main()
