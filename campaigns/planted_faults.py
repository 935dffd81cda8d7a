"""Faults planted into a generated stream: the right finding, and at most one false incident, for each of many seeds."""

import argparse
from collections import Counter

from tests.planted_faults import EXPECTED, judged


def main() -> None:
    """Plant every fault with every seed, and print what was found and what was not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--fault", action="append", choices=sorted(EXPECTED), help="only these")
    chosen = parser.parse_args()
    kept = True
    for name in chosen.fault or EXPECTED:
        fault, expected = EXPECTED[name]
        hits, most, roots = 0, 0, Counter[str]()
        for seed in range(chosen.seeds):
            missed, false = judged(fault, expected, seed)
            hits, most = hits + (not missed), max(most, len(false))
            roots.update(one.split(":", 2)[0] + ":" + one.split(":", 2)[1].split(" [")[0] + " " + one.split("[", 1)[1].split("]")[0] for one in false)
        kept &= hits == chosen.seeds and most <= 1
        told = ", ".join(f"{count} x {root}" for root, count in sorted(roots.items())) or "none"
        print(f"{name}: found in {hits} of {chosen.seeds}; false incidents in all: {told}; in one seed at most {most}", flush=True)
    raise SystemExit(0 if kept else "expected the right finding each time and at most one false incident in a seed")


if __name__ == "__main__":
    main()
