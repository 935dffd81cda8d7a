"""``python -m benchmarks``: run the benchmark, write `results.json` and `README.md` beside this file."""

import argparse
import faulthandler
import json
import signal
import sys
from pathlib import Path

from benchmarks.report import write_readme
from benchmarks.suite import Choice, Suite

_HERE = Path(__file__).parent


def main() -> None:
    """Read the arguments and run."""
    faulthandler.enable()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that everything that was started is stopped
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="Tidemill and the pass-through alone, one run each; prints, does not publish")
    arguments.add_argument("--only", action="append", default=[], metavar="WORD", help="only systems whose name contains this (may be repeated)")
    arguments.add_argument("--workload", action="append", default=[], metavar="W4", help="only this workload (may be repeated)")
    arguments.add_argument("--measure", action="append", default=[], metavar="latency", help="only this measure (may be repeated)")
    arguments.add_argument("--rounds", type=int, metavar="N", help="runs of every cell, at most")
    arguments.add_argument("--minutes", type=float, metavar="N", help="time budget; the table says how many runs each cell got")
    arguments.add_argument("--events", type=int, metavar="N", help="input events of a run at full speed, at most")
    arguments.add_argument("--report", action="store_true", help="write README.md from results.json without measuring")
    chosen = arguments.parse_args()
    published = _HERE / "results.json"
    if chosen.report:
        write_readme(json.loads(published.read_text(encoding="utf-8")), _HERE / "README.md")
        return
    choice = Choice(chosen.quick, tuple(chosen.only), tuple(chosen.workload), tuple(chosen.measure), chosen.events, chosen.rounds, chosen.minutes)
    results = Suite(choice, lambda text: print(text, flush=True)).run()
    partial = not choice.is_whole
    folder = Path(".tidemill/bench") if partial else _HERE
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_readme(results, folder / "README.md")
    print((folder / "README.md").read_text(encoding="utf-8") if partial else f"wrote {folder / 'results.json'} and {folder / 'README.md'}")


if __name__ == "__main__":
    main()
