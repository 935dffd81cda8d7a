"""``make hostile N=100000 SEED=1``: hostile messages of every kind in good traffic, chunk after chunk; goes on where it stopped."""

import argparse
import json
import secrets
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from campaigns.hostile.run import Attack, attack
from tidemill.deploy.embedded.infrastructure import Infrastructure

MEMORY_MB, TIMES_P99 = 100.0, 2.0


def main() -> int:
    """Run chunks until so many hostile messages were sent in all; 1 when anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="hostile messages in all, those of earlier chunks included")
    parser.add_argument("--seed", type=int, default=1, help="of the first chunk; every chunk takes the next")
    parser.add_argument("--chunk", type=int, default=20_000, help="hostile messages in one run of the system")
    parser.add_argument("--rate", type=float, default=250.0, help="hostile messages a second")
    parser.add_argument("--good", type=float, default=150.0, help="good payments a second")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds without attack, for comparison")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no new chunk after so long")
    parser.add_argument("--folder", type=Path, default=Path(".tidemill/hostile"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"results-{options.seed}.json"
    chunks: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["chunks"] if path.exists() else []
    began = time.monotonic()
    while _sent(chunks) < options.messages and time.monotonic() - began < options.seconds:
        count = min(options.chunk, options.messages - _sent(chunks))
        seed = options.seed + len(chunks)
        plan = Attack(seed, count, options.good, options.quiet, max(10.0, count / options.rate))
        with Infrastructure.embedded() as infrastructure:
            result = attack(infrastructure, options.folder / f"run-{seed}-{secrets.token_hex(3)}", f"hostile-{seed}", plan)
        if result.memory_growth_mb > MEMORY_MB:
            result.problems.append(f"{result.memory_growth_mb:.0f} MB more than before the attack, at most {MEMORY_MB:.0f} may be")
        if result.p99_attack_ms > TIMES_P99 * result.p99_quiet_ms:
            result.problems.append(f"p99 {result.p99_attack_ms} ms in the attack, {result.p99_quiet_ms} ms before it: more than twice as long")
        chunks.append(asdict(result) | {"memory_growth_mb": round(result.memory_growth_mb, 1)})
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps({"seed": options.seed, "messages": _sent(chunks), "chunks": chunks}, indent=1), encoding="utf-8")
        draft.replace(path)
        _say(chunks[-1])
    failed = sum(bool(chunk["problems"]) for chunk in chunks)
    print(f"{_sent(chunks):,} hostile messages in {len(chunks)} runs, {failed} of them with problems; {path}", flush=True)
    return 1 if failed else 0


def _sent(chunks: list[dict[str, Any]]) -> int:
    return sum(sum(chunk["hostile_by_kind"].values()) for chunk in chunks)


def _say(chunk: dict[str, Any]) -> None:
    verdict = chunk["verdict"]
    print(
        f"seed {chunk['attack']['seed']}: {_sent([chunk]):,} hostile; raw {verdict['raw']:,} = {verdict['accepted']:,} accepted"
        f" + {verdict['rejected']:,} rejected + {verdict['duplicates']:,} duplicates; {verdict['good']:,} good; p99 {chunk['p99_quiet_ms']} ms quiet,"
        f" {chunk['p99_attack_ms']} ms attacked; memory {chunk['memory_growth_mb']:+} MB; {chunk['restarts']} restarts; {chunk['seconds']} s",
        flush=True,
    )
    for problem in chunk["problems"]:
        print(f"  PROBLEM {problem}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
