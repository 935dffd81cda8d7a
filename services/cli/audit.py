"""Recomputes a run from its journal in one process, with the same cores, and compares bit for bit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from services.cli.history import History, prediction_schema
from services.features.task import FeaturesTask
from services.scoring.domain.core import ScoringCore
from services.scoring.domain.panel import Serving
from services.scoring.loading import load_serving
from shared.application.plan import Plan
from shared.avro.columns import ColumnDecoder, ColumnEncoder
from shared.avro.registry import SchemaRegistry
from shared.models.artifacts import ArtifactStore
from shared.models.deployments import Lifecycle
from shared.streaming.records import Records
from shared.streaming.task import StepContext


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Compared and differing values; `switches_back` counts predictions that follow an older deployment than the one before them."""

    vectors_compared: int
    vector_mismatches: int
    predictions_compared: int
    prediction_mismatches: int
    switches_back: int
    examples: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """True when everything was recomputed and nothing differs."""
        return self.vectors_compared > 0 and not (self.vector_mismatches or self.prediction_mismatches or self.switches_back)


def audit(plan: Plan, registry: SchemaRegistry, artifacts: ArtifactStore, history: History) -> AuditResult:
    """Recompute every vector and every prediction.

    A vector or prediction that is missing, or that nothing explains, counts as a mismatch.
    """
    vectors = vector_mismatches = predictions = prediction_mismatches = back = 0
    examples: list[str] = []
    for partition in history.journal:
        expected = list(_recomputed_vectors(plan, registry, partition, history.journal[partition]))
        found = [value for records in history.vectors[partition] for value in records.values]
        compared, wrong = _differences(expected, found, f"vector of partition {partition}", examples)
        vectors, vector_mismatches = vectors + compared, vector_mismatches + wrong
        compared, wrong, backward = _audit_predictions(plan, registry, artifacts, history, partition, examples)
        predictions, prediction_mismatches, back = predictions + compared, prediction_mismatches + wrong, back + backward
    return AuditResult(vectors, vector_mismatches, predictions, prediction_mismatches, back, tuple(examples[:10]))


def _recomputed_vectors(plan: Plan, registry: SchemaRegistry, partition: int, journal: Sequence[Records]) -> Iterator[bytes | None]:
    task = FeaturesTask(plan, registry, partition)
    for records in journal:
        for emission in task.process([records], StepContext(now_ms=0)).emissions:
            yield from emission.values


def _audit_predictions(
    plan: Plan, registry: SchemaRegistry, artifacts: ArtifactStore, history: History, partition: int, examples: list[str]
) -> tuple[int, int, int]:
    answers = [value for records in history.predictions[partition] for value in records.values]
    asked = [value for records in history.vectors[partition] for value in records.values]
    said = ColumnDecoder(registry, prediction_schema()).decode(answers).batch
    vectors = ColumnDecoder(registry, plan.vector_schema).decode(asked).batch
    encoder = ColumnEncoder(registry, f"{plan.topics.predictions}-tidemill.Prediction", prediction_schema())
    models = np.array(said.column("model").to_pylist(), dtype=object)
    asks = np.array(vectors.column("_ask").to_pylist(), dtype=object)
    compared = wrong = back = 0
    for name, model in plan.models.items():
        mine, rows = np.flatnonzero(models == name), np.flatnonzero(asks == model.ask)
        if len(mine) != len(rows):
            wrong += abs(len(mine) - len(rows))
            examples.append(f"{name}: expected {len(rows)} predictions, found {len(mine)}")
            continue
        core, serving = ScoringCore(plan, [name]), _served(plan, artifacts, history, name)
        sequences = said.column("deployment_sequence").to_numpy()[mine]
        steps = np.flatnonzero(np.diff(sequences)) + 1
        back += int((np.diff(sequences) < 0).sum())
        for begin, end in zip([0, *steps.tolist()], [*steps.tolist(), len(mine)], strict=True):
            if begin == end:
                continue
            batch = vectors.take(pa.array(rows[begin:end]))
            now = serving.get(int(sequences[begin]))
            expected = encoder.encode(core.process(batch, {} if now is None else {name: now}).batch)
            found = [answers[i] for i in mine[begin:end].tolist()]
            some, bad = _differences(expected, found, f"prediction of {name}, deployment {sequences[begin]}", examples)
            compared, wrong = compared + some, wrong + bad
    return compared, wrong, back


def _served(plan: Plan, artifacts: ArtifactStore, history: History, model: str) -> dict[int, Serving]:
    """Return what served from each deployment on."""
    lifecycle, served = Lifecycle(), {}
    for event in history.deployments:
        if event["model"] != model:
            continue
        lifecycle = lifecycle.apply(event)
        champion = lifecycle.champion
        if champion is not None and champion.sequence not in served:
            served[champion.sequence] = load_serving(plan, artifacts, model, champion)
    return served


def _differences(expected: Sequence[bytes | None], found: Sequence[bytes | None], what: str, examples: list[str]) -> tuple[int, int]:
    wrong = [i for i, (first, second) in enumerate(zip(expected, found, strict=False)) if first != second]
    if wrong:
        examples.append(f"{what}: {len(wrong)} differ, the first is number {wrong[0]}")
    if len(expected) != len(found):
        examples.append(f"{what}: expected {len(expected)}, found {len(found)}")
    return max(len(expected), len(found)), len(wrong) + abs(len(expected) - len(found))
