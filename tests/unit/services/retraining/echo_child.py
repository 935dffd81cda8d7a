"""A child for `WarmChild` that says which process it is."""

import os
from pathlib import Path

from tidemill.services.retraining.processes.warm_child import serve


def work(request: Path, result: Path) -> None:
    name = request.read_text()
    print(name, flush=True)
    if name == "crash":
        raise RuntimeError("expected no crash")
    part = result.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(result)


if __name__ == "__main__":
    raise SystemExit(serve(work))
