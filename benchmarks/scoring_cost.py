"""What a model costs: CPU time of scoring per event and model, for 1, 10 and 100 models over shared features.

``python -m benchmarks.scoring_cost`` prints a table. LightGBM, 100 trees of 31 leaves, 20 columns; seeded. Figures are the least of several
repetitions in one process, so that other load on the machine counts little.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa

from benchmarks.many_models import COUNTRIES, CURRENCIES, trained, write_application
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.panel import Panel
from tidemill.services.scoring.domain.serving import Serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.onnx_scorer import OnnxScorer

_PREDICTION = Path(__file__).parents[1] / "schemas" / "prediction.avsc"
_TRAINED = 8


def vectors(plan: Plan, rows: int, seed: int = 5) -> pa.RecordBatch:
    """Return seeded vectors of the application, a twentieth of the values missing."""
    rng = np.random.default_rng(seed)
    columns = []
    for field in plan.vector_arrow:
        if field.name == "_request_id":
            column = pa.array([f"payment-{i:010}" for i in range(rows)])
        elif field.name == "_ask":
            column = pa.array(["payments"] * rows)
        elif field.type == pa.string():
            column = pa.array(rng.choice(CURRENCIES if field.name == "currency" else COUNTRIES, rows))
        elif field.type == pa.float64():
            column = pa.array(rng.lognormal(2.0, 1.0, rows))
        elif field.type == pa.bool_():
            column = pa.array(np.zeros(rows, np.bool_))
        else:
            numbers = np.zeros(rows, np.int64) if field.type == pa.int32() else np.arange(rows) + 1_700_000_000_000
            column = pa.array(numbers).cast(field.type)
        if field.nullable:
            column = pa.compute.if_else(pa.array(rng.random(rows) < 0.05), pa.scalar(None, column.type), column)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=plan.vector_arrow)


def served(plan: Plan, artifacts: Sequence[Artifact]) -> dict[str, Serving]:
    """Return a champion for every model: copies of a few trained ones, each read from its own bytes."""
    now = {}
    for i, name in enumerate(plan.models):
        now[name] = Serving(f"v{i}", i, 0.5, OnnxScorer(artifacts[i % len(artifacts)]), None)
    return now


def least_us(work: Callable[[], object], rows: int, seconds: float) -> float:
    """Return the least CPU time of a call, in microseconds per row."""
    best, spent = float("inf"), 0.0
    while spent < seconds:
        begin = time.process_time()
        work()
        took = time.process_time() - begin
        best, spent = min(best, took), spent + max(took, 1e-6)
    return best / rows * 1e6


def measure(plan: Plan, serving: dict[str, Serving], rows: int, seconds: float) -> dict[str, float]:
    """Return microseconds per event and model: inputs, trees, assembly of the records, Avro."""
    batch = vectors(plan, rows)
    core, models = ScoringCore(plan), len(plan.models)
    panel = Panel(list(plan.models.values()), list(serving.values()))
    inputs = panel.inputs
    blocks = inputs.encode(batch)
    encoder = ColumnEncoder(MemorySchemaRegistry(), "p", _PREDICTION.read_text(encoding="utf-8"))
    answers = core.process(batch, serving)
    figures = {
        "inputs": least_us(lambda: inputs.encode(batch), rows, seconds),
        "trees": least_us(lambda: [stack.score(blocks) for _, stack in panel.stacks], rows, seconds),
        "core": least_us(lambda: core.process(batch, serving), rows, seconds),
        "avro": least_us(lambda: encoder.encode(answers.batch), rows, seconds),
    }
    figures["records"] = figures["core"] - figures["inputs"] - figures["trees"]
    return {name: figure / models for name, figure in figures.items()}


def onnx_runtime_us(plan: Plan, artifact: Artifact, rows: int, seconds: float) -> float:
    """Return what ONNX Runtime takes for one of the models on one thread, microseconds per row, inputs given."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(artifact.onnx, options, providers=["CPUExecutionProvider"])
    output, matrix = session.get_outputs()[-1].name, artifact.signature.encode(vectors(plan, rows))
    return least_us(lambda: session.run([output], {"input": matrix}), rows, seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 100, 1_000])
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU time spent on each figure")
    options = parser.parse_args(arguments)
    print("CPU microseconds per event and model (LightGBM, 100 trees of 31 leaves, 20 columns)")
    print(f"{'models':>7}{'rows':>7}{'inputs':>9}{'trees':>9}{'records':>9}{'avro':>9}{'sum':>9}{'each more':>11}{'ONNX Runtime':>14}")
    with tempfile.TemporaryDirectory() as folder:
        first: dict[int, float] = {}
        artifacts: list[Artifact] = []
        for models in sorted(options.models):
            plan = load_plan(write_application(Path(folder) / str(models), models))
            names = list(plan.models)
            artifacts = artifacts if len(artifacts) >= min(models, _TRAINED) else [trained(plan, name, i) for i, name in enumerate(names[:_TRAINED])]
            serving = served(plan, artifacts)
            for rows in options.rows:
                figures = measure(plan, serving, rows, options.seconds)
                total = figures["core"] + figures["avro"]
                first.setdefault(rows, total * models)
                more = f"{(total * models - first[rows]) / (models - min(options.models)):.2f}" if models > min(options.models) else "-"
                runtime = onnx_runtime_us(plan, artifacts[0], rows, options.seconds)
                shown = [figures[name] for name in ("inputs", "trees", "records", "avro")]
                print(f"{models:>7}{rows:>7}" + "".join(f"{value:>9.2f}" for value in [*shown, total]) + f"{more:>11}{runtime:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
