"""A process that tries estimators of the application's own, which may hang or end it (`WarmChild`).

Run as ``python -m tidemill.services.retraining.processes.family_trial``.
"""

import json
import os
from pathlib import Path

import tidemill.shared.rare_collections  # noqa: F401 - before the libraries
from tidemill.services.retraining.domain.families.family import FamilyError
from tidemill.services.retraining.own_families import check_explained_families, check_own_families
from tidemill.services.retraining.processes.warm_child import serve
from tidemill.shared.application.planning import load_plan


def work(source: Path, target: Path) -> None:
    """Read which application, write what is wrong with its families; nothing if nothing is."""
    asked = json.loads(source.read_text(encoding="utf-8"))
    folder, problem = Path(asked["application"]), ""
    plan = load_plan(folder)
    try:
        check_own_families(plan, folder)
        if asked["explained"]:
            check_explained_families(plan, folder)
    except FamilyError as error:
        problem = str(error)
    part = target.with_name(f"{target.name}.part")
    part.write_text(problem, encoding="utf-8")
    os.replace(part, target)


if __name__ == "__main__":
    raise SystemExit(serve(work))
