"""A process that works off trials one after the other (`WarmChild`).

Run as ``python -m tidemill.experiments.worker``.
"""

import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import tidemill.shared.rare_collections  # noqa: F401 - before the libraries
from tidemill.experiments.configuration import Configuration
from tidemill.experiments.subject import bench_of, write_whole
from tidemill.experiments.trial import FoldedRows, run_trial
from tidemill.services.retraining.processes.warm_child import serve

_WORDS = 600


@lru_cache(maxsize=1)
def _bench(folder: str, application: str) -> FoldedRows:
    return bench_of(Path(folder), Path(application))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run one trial: what came of it, or why nothing did."""
    bench, begun = _bench(request["folder"], request["application"]), time.monotonic()
    try:
        result = run_trial(bench, Configuration.of(request["configuration"]))
    except Exception as problem:  # estimators raise whatever they like; it is this trial's result, and the search goes on
        said = " ".join(str(problem).split()) or "no message"
        return {"status": "failed", "reason": f"{type(problem).__name__}: {said}"[:_WORDS], "wall_s": time.monotonic() - begun}
    return {"status": "done", "reason": "", "wall_s": time.monotonic() - begun, **result}


def work(source: Path, target: Path) -> None:
    """Read a request, write a result."""
    request = json.loads(source.read_text(encoding="utf-8"))
    write_whole(target, json.dumps({**answer(request), "configuration": request["configuration"]}))


if __name__ == "__main__":
    raise SystemExit(serve(work))
