"""One application with many models: does it load, start and answer, and what does that cost?

``python -m benchmarks.models_smoke`` runs 500 models of 100 trees, ``--kind multiclass`` and ``--kind regression`` of other kinds. The scoring task
itself reads the deployments log from its beginning, as at every start, loads every champion from the artifact store, and answers a batch of vectors.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.many_models import QUESTIONS, trained, write_application
from benchmarks.scoring_cost import vectors
from tidemill.services.scoring.task import ScoringTask
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records, Step
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.runner.task import StepContext

_SCHEMAS = Path(__file__).parents[1] / "schemas"
_TRAINED = 4
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Smoke:
    """What was measured: CPU seconds, and resident memory that was not there before."""

    models: int
    topics: int
    predictions: int
    plan_s: float
    deployments: int
    restore_s: float
    restore_mb: float
    first_batch_s: float
    batch_us_per_event_and_model: float


def run(models: int, trees: int, rows: int, kind: str = "binary") -> Smoke:
    """Load, restore, answer; raises AssertionError when an answer is missing or wrong."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        application = write_application(root / "app", models, kind)
        plan, plan_s = _timed(lambda: load_plan(application))
        registry, store = MemorySchemaRegistry(), ArtifactStore(str(root / "artifacts"))
        log = _deployments(plan, registry, store, trees)
        batch = vectors(plan, 2 * rows)
        encoded = ColumnEncoder(registry, "v", plan.vector_schema).encode(batch)
        task = ScoringTask(plan, registry, store, 0)
        before = psutil.Process().memory_info().rss
        _, restore_s = _timed(lambda: task.replay([_records(plan.topics.deployments, log, 0)]))

        def answer(first: int) -> Step:
            return task.process([_records(plan.topics.vectors, encoded[first : first + rows], first)], StepContext(0))

        step, first_s = _timed(lambda: answer(0))
        restored = psutil.Process().memory_info().rss
        _, again_s = _timed(lambda: answer(rows))
        values = [value for emission in step.emissions for value in emission.values]
        rows_said = ColumnDecoder(registry, _schema("prediction")).decode(values).batch
        names, topics = list(plan.models), len(plan.topics.raw) + len(catalogue_topics(plan.application.app, plan.application.partitions))
        assert rows_said.column("model").to_pylist() == names * rows, "expected every model's answer to every request, in order"
        assert set(rows_said.column("variant").to_pylist()) == {"champion"}, "expected every model to have its champion"
        assert rows_said.column("model_version").to_pylist()[:models] == [f"v-{name}" for name in names]
        _check(rows_said, plan)
        assert all(len(emission.keys) == len(emission.values) for emission in step.emissions)
        return Smoke(models, topics, len(values), plan_s, len(log), restore_s, (restored - before) / 2**20, first_s, again_s / rows / models * 1e6)


def _check(said: pa.RecordBatch, plan: Plan) -> None:
    """Hold each answer to what its kind has beside a score: probabilities by class and the likeliest one's name, or an interval."""
    kind = next(iter(plan.models.values())).kind
    score = said.column("score").to_numpy()
    if kind.classes:
        tables = np.array([list(dict(one).values()) for one in said.column("scores").to_pylist()])
        assert tables.shape == (len(score), kind.width) and np.abs(tables.sum(axis=1) - 1).max() < 1e-6, "expected probabilities of every class"
        assert said.column("predicted_label").to_pylist() == [kind.classes[i] for i in tables.argmax(axis=1)]
        assert np.array_equal(tables.max(axis=1), score) and len(np.unique(tables.argmax(axis=1))) > 1
    elif kind.name == "regression":
        lower, upper = (said.column(name).to_numpy() for name in ("lower", "upper"))
        assert np.allclose(lower, score - 1.5) and np.allclose(upper, score + 2.5), "expected the interval of every answer"
    else:
        assert said.column("scores").null_count == said.column("lower").null_count == len(score)


def _deployments(plan: Plan, registry: MemorySchemaRegistry, store: ArtifactStore, trees: int) -> list[bytes]:
    """Return a log in which every model was registered, passed its gate and was promoted; a few trained models go round."""
    codec = RecordCodec(registry, "d", _schema("deployment"))
    names = list(plan.models)
    few = [trained(plan, name, i, trees, rows=1_000) for i, name in enumerate(names[:_TRAINED])]
    log = []
    for i, name in enumerate(names):
        made = few[i % len(few)]
        address = store.put(Artifact(made.signature.model_copy(update={"model": name, "version": f"v-{name}"}), made.onnx).to_bytes())
        for sequence, event in enumerate(("registered", "gate_passed", "promoted")):
            record: dict[str, Any] = {
                "sequence": sequence, "parent": sequence - 1, "decision_id": f"{name}-1", "model": name, "event": event, "version": f"v-{name}",
                "journal_partition": 0, "journal_offset": 0, "journal_time": 0, "artifact_sha256": address, "artifact_uri": "", "share": 1.0,
                "threshold": 0.5, "figures": {}, "details": {}, "reason": "",
            }  # fmt: skip
            log.append(codec.encode(record))
    return log


def _records(topic: str, values: Sequence[bytes], first: int) -> Records:
    n = len(values)
    return Records(topic, 0, np.arange(first, first + n), np.zeros(n, np.int64), [b"k"] * n, values)


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    begin = time.process_time()
    result = work()
    return result, time.process_time() - begin


def _schema(name: str) -> str:
    return (_SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--kind", choices=sorted(QUESTIONS), default="binary")
    options = parser.parse_args(arguments)
    smoke = run(options.models, options.trees, options.rows, options.kind)
    for field in fields(smoke):
        value = getattr(smoke, field.name)
        print(f"{field.name:<30}{value:>12,}" if isinstance(value, int) else f"{field.name:<30}{value:>12.2f}")


if __name__ == "__main__":
    main()
