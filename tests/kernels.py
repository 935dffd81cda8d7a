"""Compile the kernels into Numba's cache, and the sources to byte code, before several processes want them at once: ``python -m tests.kernels``.

A cold cache costs a minute of compilation. Worker processes, and the services that the tests start, would each pay for it at the same time.
With a warm cache this takes as long as its imports and a short backtest.
"""

import compileall
import io
import tempfile
from pathlib import Path

import lightgbm
import numpy as np
import onnx
from rich.console import Console

from tests.journals import random_journal
from tests.models import artifact, data
from tests.restarts import folded_with_restarts
from tests.unit.tidemill.backtest.meters import LinearTrainer, application, files
from tidemill.backtest.run import BacktestOptions, backtest
from tidemill.services.cli.backtest_data import DataChoice
from tidemill.shared.application.planning import load_plan
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.blocks import blocks_of_rows
from tidemill.shared.models.class_forest import ClassForest
from tidemill.shared.models.export import lightgbm_to_onnx
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Call every kernel that more than one process of the tests calls."""
    for folder in ("deploy", "services", "shared", "tidemill"):
        compileall.compile_dir(ROOT / folder, quiet=1)
    features()
    stages()
    forests()


def features() -> None:
    """Fold a small journal, with checkpoints and restarts."""
    plan = load_plan(ROOT / "examples" / "flights")
    rng = np.random.default_rng(1)
    folded_with_restarts(plan, random_journal(plan, 300, rng), rng, restart=0.3, budget=5_000)


def stages() -> None:
    """Send a few rows through every stage."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = BacktestOptions(DataChoice(files(folder, "multiclass", rows=400)), folder=folder / "kept")
        trainer = LinearTrainer("multiclass", ArtifactStore(str(folder / "kept" / "artifacts")))
        backtest(application(folder / "app", "multiclass"), options, Console(file=io.StringIO()), trainer)


def forests() -> None:
    """Score with a model of two classes, which is a forest of one output, and with one of three."""
    width = 5
    OnnxScorer(artifact("lightgbm", tuple(Column(name=f"c{i}", type="double") for i in range(width)))[0])
    matrix, label = data(300, width, 1)
    parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "seed": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, label + (matrix[:, 2] > 0)), 2)
    forest = ClassForest.from_graph(onnx.load_from_string(lightgbm_to_onnx(booster, width)).graph)
    if forest is None:
        raise RuntimeError("expected the model of three classes to be served by the kernel, found a graph that is no forest")
    forest.score(blocks_of_rows(matrix), forest.trees.columns)


if __name__ == "__main__":
    main()
