"""What a service loads before its first record: a run starts ten processes, and a child that tries a record pays for it again."""

import subprocess
import sys
from pathlib import Path

from tidemill.runs.supervisor import LOADED_ONCE

ROOT = Path(__file__).parents[3]
THREADED = ("onnxruntime", "faust", "uvicorn")
HEAVY = ("scipy.special", "scipy.stats", "sklearn", "lightgbm", "optuna", "mlflow", "river", "matplotlib", "plotly")


STAGES = ("fused", "ingestion", "features", "scoring", "outcomes", "archive", "retraining")
PROGRAM = f"""
import importlib, sys, threading
for module in {LOADED_ONCE}:
    importlib.import_module(module)
print(threading.active_count(), *sys.modules)
for stage in {STAGES}:
    importlib.import_module(f"tidemill.services.{{stage}}.service")
print(*sys.modules)
"""


def test_what_services_are_forked_from_starts_no_thread_and_the_path_of_a_prediction_loads_nothing_that_only_learning_needs() -> None:
    """First what is loaded once for all of them, then what they need beside it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True, capture_output=True, text=True)
    (threads, *once), loaded = (line.split() for line in done.stdout.splitlines())
    assert threads == "1" and "polars" in once
    assert not [name for name in (*HEAVY, *THREADED) if name in once]
    assert "tidemill.services.fused.service" in loaded
    assert not [name for name in HEAVY if name in loaded]
