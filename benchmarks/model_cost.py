"""What model number 2 to 100 costs on shared features, as a cell of the table."""

import tempfile
from pathlib import Path

from benchmarks.cells import Cell, Run
from benchmarks.many_models import trained, write_application
from benchmarks.scoring_cost import measure, served
from tidemill.shared.application.planning import load_plan

MODELS, ROWS = 100, 1_000
_TRAINED = 4
_SECONDS = 0.5


def cells(rounds: int) -> list[Cell]:
    """Scoring's core and encoding in this process: no topic and no other stage can hide the difference of one model."""
    facts = {"guarantee": "", "commit_interval": "", "events": ROWS}
    return [Cell("Tidemill, scoring", "W5", "models", _measure, min(3, rounds), facts)]


def _measure(number: int) -> Run:
    total: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for models in (1, MODELS):
            plan = load_plan(write_application(Path(folder) / str(models), models))
            artifacts = [trained(plan, name, i) for i, name in enumerate(list(plan.models)[:_TRAINED])]
            figures = measure(plan, served(plan, artifacts), ROWS, _SECONDS)
            total[models] = (figures["core"] + figures["avro"]) * models
    return {"models": MODELS, "first_us": total[1], "all_us": total[MODELS], "each_more_us": (total[MODELS] - total[1]) / (MODELS - 1)}
