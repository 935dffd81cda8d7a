"""A process that trains versions again, one after the other (`WarmChild`).

Run as ``python -m tidemill.offline.reproduce_worker``.
"""

import json
import os
from functools import lru_cache
from pathlib import Path

import tidemill.shared.rare_collections  # noqa: F401 - before the libraries
from tidemill.offline.reproduced_version import train_again
from tidemill.services.retraining.processes.warm_child import serve
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan


@lru_cache(maxsize=1)
def _plan(application: str) -> Plan:
    return load_plan(Path(application))


def work(source: Path, target: Path) -> None:
    """Read which version, write what came of it."""
    asked = json.loads(source.read_text(encoding="utf-8"))
    reproduction = train_again(_plan(asked["application"]), asked["lake"], asked["artifacts"], asked["model"], asked["version"])
    part = target.with_name(f"{target.name}.part")
    part.write_text(json.dumps(reproduction.as_json()), encoding="utf-8")
    os.replace(part, target)


if __name__ == "__main__":
    raise SystemExit(serve(work))
