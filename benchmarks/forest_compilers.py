"""Our forest kernel beside what compiles forests, on the same model and the same rows of 32-bit numbers.

    python -m benchmarks.forest_compilers FOLDER
    PEERS/bin/python benchmarks/forest_compilers.py FOLDER --peers

The first writes the model and the rows, and measures ours and ONNX Runtime. The second runs in an environment of its own (lleaves, tl2cgen, treelite,
lightgbm and numpy; lleaves 1.3.0 needs llvmlite below 0.45, which our numba does not take) and a C compiler. One thread; times are the least CPU time
of several calls.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

_WIDTH, _TREES, _LEAVES, _SEED = 20, 100, 31, 7
_MOST = float(np.finfo(np.float32).max)
_MODEL = "model.txt"
_SIZES = (1, 10, 100, 1_000)
_ROUNDS = 7
_SECONDS = 0.02
Predict = Callable[[NDArray[np.float32]], NDArray[Any]]


def booster() -> lightgbm.Booster:
    """Return a trained forest; its inputs are 32-bit numbers with missing values."""
    rng = np.random.default_rng(_SEED)
    matrix = rng.normal(size=(20_000, _WIDTH)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    label = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 1] * matrix[:, 2]) + rng.normal(size=len(matrix)) > 0
    parameters = {"objective": "binary", "num_leaves": _LEAVES, "verbose": -1, "num_threads": 1, "seed": _SEED, "min_data_in_leaf": 20}
    return lightgbm.train(parameters, lightgbm.Dataset(matrix, label), _TREES)


def ours(model: lightgbm.Booster) -> dict[str, Callable[[], Predict]]:
    """Return what makes our kernel and an ONNX session."""
    import onnx
    import onnxruntime as ort

    from tidemill.shared.models.blocks import blocks_of_rows
    from tidemill.shared.models.export import lightgbm_to_onnx
    from tidemill.shared.models.forest import Forest, ForestStack

    graph = lightgbm_to_onnx(model, _WIDTH)

    def session() -> Predict:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        made = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        outputs = [made.get_outputs()[-1].name]
        return lambda rows: np.asarray(made.run(outputs, {"input": rows})[0])[:, -1]

    def kernel() -> Predict:
        forest = Forest.from_graph(onnx.load_from_string(graph).graph)
        assert forest is not None
        stack = ForestStack([forest], [np.arange(_WIDTH, dtype=np.int32)])
        return lambda rows: stack.score(blocks_of_rows(rows))[0, : len(rows)]

    return {"ONNX Runtime": session, "ours": kernel}


def peers(folder: Path) -> dict[str, Callable[[], Predict]]:
    """Return what makes the compiled forests of others."""

    def lleaves() -> Predict:
        compiled = importlib.import_module("lleaves").Model(model_file=str(folder / _MODEL))
        compiled.compile()
        return lambda rows: np.asarray(compiled.predict(rows, n_jobs=1))

    def tl2cgen() -> Predict:
        library, frontend = importlib.import_module("tl2cgen"), importlib.import_module("treelite").frontend
        target = folder / "forest.so"
        library.export_lib(frontend.load_lightgbm_model(folder / _MODEL), toolchain="gcc", libpath=str(target))
        predictor = library.Predictor(str(target), nthread=1)
        return lambda rows: np.asarray(predictor.predict(library.DMatrix(rows.astype(np.float64)))).reshape(-1)

    return {"lleaves": lleaves, "tl2cgen": tl2cgen}


def least_us(predict: Predict, rows: NDArray[np.float32]) -> float:
    """Return CPU microseconds for a row."""
    calls, begun = 0, time.process_time()
    while time.process_time() - begun < _SECONDS:
        predict(rows)
        calls += 1
    return (time.process_time() - begun) / calls / len(rows) * 1e6


def rows_of(model: lightgbm.Booster) -> dict[str, NDArray[np.float32]]:
    """Return rows like those it learned from, and rows one 32-bit number beside its thresholds."""
    rng = np.random.default_rng(_SEED + 1)
    rows = rng.normal(size=(20_000, _WIDTH)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    splits = model.trees_to_dataframe()[["split_feature", "threshold"]].dropna()
    beside = np.empty_like(rows)
    for column in range(_WIDTH):
        of_column = splits["threshold"][splits["split_feature"] == f"Column_{column}"].to_numpy()
        thresholds = np.clip(of_column, -_MOST, _MOST).astype(np.float32)
        chosen = rng.choice(thresholds, len(rows)) if len(thresholds) else np.zeros(len(rows), np.float32)
        with np.errstate(over="ignore"):  # beyond the largest number is infinity, a value as any other
            beside[:, column] = np.nextafter(chosen, rng.choice(np.array([-np.inf, 0.0, np.inf], np.float32), len(rows)))
    return {"rows": rows, "beside thresholds": beside}


def measure(makers: dict[str, Callable[[], Predict]], folder: Path) -> None:
    """Print bits against ONNX Runtime's, and CPU time."""
    rows: dict[str, NDArray[np.float32]] = {name: np.load(folder / f"{name}.npy") for name in ("rows", "beside thresholds")}
    for name, make in makers.items():
        begun = sum(os.times()[:4])
        predict = make()
        predict(rows["rows"][:1])
        print(f"{name}: {sum(os.times()[:4]) - begun:.2f} s CPU to the first score")
        for what, taken in rows.items():
            scores = np.asarray(predict(taken), np.float64)
            kept = folder / f"{what}.scores.npy"
            if not kept.exists():
                np.save(kept, scores)
            reference = np.load(kept)
            other, most = (scores.astype(np.float32) != reference.astype(np.float32)).mean(), np.abs(scores - reference).max()
            sevens = np.concatenate([predict(taken[i : i + 7]) for i in range(0, 700, 7)])
            batching = "cannot be seen" if np.array_equal(sevens, predict(taken)[:700]) else "changes bits"
            print(f"  {what}: {other:.1%} other 32-bit scores than ONNX Runtime, largest difference {most:.2g}; batching {batching}")
        print("  us a row: " + ", ".join(f"{size} rows {min(least_us(predict, rows['rows'][:size]) for _ in range(_ROUNDS)):.2f}" for size in _SIZES))


def main() -> None:
    """Write, measure and print."""
    folder = Path(sys.argv[1])
    if "--peers" in sys.argv:
        measure(peers(folder), folder)
        return
    folder.mkdir(parents=True)
    model = booster()
    model.save_model(folder / _MODEL)
    for name, rows in rows_of(model).items():
        np.save(folder / f"{name}.npy", rows)
    measure(ours(model), folder)


if __name__ == "__main__":
    main()
