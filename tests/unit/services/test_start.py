"""What a service loads before its first record: a run starts ten processes, and a child that tries a record pays for it again."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
HEAVY = ("scipy.special", "scipy.stats", "sklearn", "lightgbm", "optuna", "mlflow", "river", "matplotlib", "plotly")


def test_the_path_of_a_prediction_loads_no_library_that_only_learning_needs() -> None:
    modules = ("fused", "ingestion", "features", "scoring", "outcomes", "archive", "retraining")
    code = f"import sys, importlib; [importlib.import_module(f'tidemill.services.{{m}}.service') for m in {modules}]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert "tidemill.services.fused.service" in loaded
    assert not [name for name in HEAVY if name in loaded]
