"""What a service loads before its first record: a run starts ten processes, and a child that tries a record pays for it again."""

import subprocess
import sys
from pathlib import Path

from tidemill.runs.supervisor import LOADED_ONCE

ROOT = Path(__file__).parents[3]
THREADED = ("onnxruntime", "faust", "uvicorn")
HEAVY = ("scipy.special", "scipy.stats", "sklearn", "lightgbm", "optuna", "mlflow", "river", "matplotlib", "plotly")


def test_the_path_of_a_prediction_loads_no_library_that_only_learning_needs() -> None:
    modules = ("fused", "ingestion", "features", "scoring", "outcomes", "archive", "retraining")
    code = f"import sys, importlib; [importlib.import_module(f'tidemill.services.{{m}}.service') for m in {modules}]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert "tidemill.services.fused.service" in loaded
    assert not [name for name in HEAVY if name in loaded]


def test_what_services_are_forked_from_has_one_thread_of_python_and_no_library_that_starts_its_own() -> None:
    code = f"import os, sys, threading, importlib; [importlib.import_module(m) for m in {LOADED_ONCE}]; print(threading.active_count(), *sys.modules)"
    threads, *loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert threads == "1" and "polars" in loaded
    assert not [name for name in (*HEAVY, *THREADED) if name in loaded]
