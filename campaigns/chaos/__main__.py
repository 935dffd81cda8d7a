"""``make chaos FAULTS=1000 SEED=1``: real faults on real processes and servers, chunk after chunk; goes on where it stopped."""

import argparse
import secrets
import shutil
import time
from pathlib import Path

from campaigns.chaos.chunk import ChunkPlan, run_chunk
from campaigns.chaos.endings import endings, keep_logs
from campaigns.chaos.kinds.catalogue import KINDS
from campaigns.chaos.results import Results, line
from tidemill.deploy.embedded.infrastructure import Infrastructure

_TRIALS = 6


def main() -> int:
    """Run chunks until so many faults have struck in all; 1 when anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=1_000, help="in all, those of earlier chunks included")
    parser.add_argument("--seed", type=int, default=1, help="of the first chunk; every chunk takes the next")
    parser.add_argument("--chunk", type=int, default=100, help="faults in one run of the system")
    parser.add_argument("--every", type=int, default=50, help="faults from one verdict to the next")
    parser.add_argument("--rate", type=float, default=40.0, help="payments a second")
    parser.add_argument("--brokers", type=int, default=1, help="1, or 3: then everything has three copies, and leaders are killed")
    parser.add_argument("--kinds", default="", help="only kinds with one of these words, separated by commas")
    parser.add_argument("--one-topology", action="store_true", help="instances of both topologies never run side by side")
    parser.add_argument("--short", action="store_true", help="no server is away for minutes")
    parser.add_argument("--at-once", type=int, default=3, help="faults under way at most: with 1 each is recovered from before the next strikes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no new chunk after so long")
    parser.add_argument("--verbose", action="store_true", help="say every fault")
    parser.add_argument("--keep", action="store_true", help="keep everything of a run, the servers' logs among it, also where there is no problem")
    parser.add_argument("--folder", type=Path, default=Path(".tidemill/chaos"))
    options = parser.parse_args()
    words = [word for word in options.kinds.split(",") if word]
    kinds = [kind for kind in KINDS if not words or any(word in kind.name for word in words)]
    options.folder.mkdir(parents=True, exist_ok=True)
    results = Results(options.folder / f"results-{options.seed}.json", options.seed)
    began = time.monotonic()
    while results.struck < options.faults and time.monotonic() - began < options.seconds:
        seed = options.seed + len(results.chunks)
        count = min(options.chunk, options.faults - results.struck)
        plan = ChunkPlan(seed, count, options.every, options.rate, not options.one_topology, not options.short, options.at_once, _TRIALS)
        folder = options.folder / f"run-{seed}-{secrets.token_hex(3)}"
        with Infrastructure.embedded(folder / "servers", options.brokers) as servers:
            chunk = run_chunk(servers, folder, f"chaos-{seed}", plan, kinds, _say if options.verbose else lambda _: None)
        results.add(chunk)
        _say(line(results.chunks[-1]))
        for problem in chunk.problems:
            _say(f"  PROBLEM {problem}")
        if chunk.problems:
            _say(f"  its logs: {folder}")
        elif options.keep:
            _say(f"  kept: {folder}")
        else:
            if chunk.endings:
                kept = options.folder / f"logs-{folder.name.removeprefix('run-')}"
                keep_logs(endings(folder / "logs"), folder / "logs", kept)
                _say(f"  logs of processes that ended by themselves: {kept}")
            shutil.rmtree(folder)
    for kind, figures in results.recovery().items():
        _say(f"  {kind}: {figures['count']:.0f} faults, recovery p50 {figures['p50']:.1f} s, p99 {figures['p99']:.1f} s")
    _say(f"{results.struck:,} faults in {len(results.chunks)} runs, {results.failed} of them with problems; {results.file}")
    _say(f"  requests: {', '.join(f'{count:,} {name}' for name, count in results.trials.items())}")
    for reason, count in results.endings.items():
        _say(f"  {count:,} ended by themselves: {reason}")
    for name in results.untested:
        _say(f"  PROBLEM no request was {name}: trials of candidates were not tested")
    return 1 if results.failed or results.untested else 0


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
