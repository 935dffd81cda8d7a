"""Trainings in a process of their own, which takes them from its parent (`WarmChild`), one at a time.

Run as ``python -m tidemill.services.retraining.processes.job``.
"""

import hashlib
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import Examples, Split, label_horizon_ms
from tidemill.services.retraining.domain.families.family import FamilyError
from tidemill.services.retraining.domain.gate import Verdict, judge, keeps
from tidemill.services.retraining.domain.training import Candidate, TooFewRowsError, refit, train
from tidemill.services.retraining.own_families import check_own_families
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult, version_name
from tidemill.services.retraining.processes.warm_child import serve
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.view_version import feature_versions, view_version
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.lake.training_set import TrainingSet, training_set
from tidemill.shared.log.errors import TransientError
from tidemill.shared.models.artifacts import Artifact, ArtifactError, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.version import CODE_VERSION

log = logging.getLogger(__name__)
_PUT_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


def run(request: JobRequest) -> JobResult:
    """Search and judge a recipe; fit it once more on everything known, store that, record."""
    plan = load_plan(Path(request.application))
    model = plan.models[request.retraining["model"]]
    version = version_name(request.retraining)
    if model.settings.kind != "binary":
        return _failed(version, f"expected a binary model, {model.name} is {model.settings.kind}: no family trains it yet")
    before = int(request.retraining["journal_time"])
    lake = Lake(request.lake, plan.application.app)
    if missing := [table for table in (VECTORS, OUTCOMES) if not lake.exists(table)]:
        return _failed(version, f"expected labelled rows in the lake, found no {' and no '.join(missing)} yet")
    found = training_set(lake, model, before, feature_versions(plan))
    dataset, store = found.version, ArtifactStore(request.artifacts)
    try:
        if not found.rows.num_rows:
            others = int(dataset["rows_of_other_views"])
            raise TooFewRowsError(f"expected labelled rows, found none{f' but {others} of other versions of the views' if others else ''}")
        examples = _examples(found, model)
        del found  # The same rows twice would be most of this process's memory.
        label = model.settings.label
        horizon_ms = label_horizon_ms(examples, before, label.max_delay, label.on_timeout != "unlabelled")
        split = Split.of(before, model.settings.training.holdout_days, horizon_ms)
        check_own_families(plan, Path(request.application))
        candidate = train(examples, split, model.name, version, model.settings.training)
        served = refit(examples, split, candidate, model.settings.training)
    except (TooFewRowsError, FamilyError) as error:
        return _failed(version, str(error), dataset)
    address = _put(store, served.to_bytes())
    try:
        judged, scorer = OnnxScorer(candidate.artifact), OnnxScorer(Artifact.from_bytes(store.get(address)))
    except ArtifactError as error:
        return _failed(version, str(error), dataset)
    champion = _load(store, request.champion)
    verdict = _against(examples, split, judged, champion, model)
    if verdict.passed:
        rows = split.gate(examples, 0)
        verdict = keeps(verdict, rows.labels, scorer.score(rows.features), judged.score(rows.features), rows.request_ms, model.settings.gate.alpha)
    reverse = _against(examples, split, _load(store, request.predecessor), champion, model) if request.predecessor and not verdict.passed else None
    details = {
        **{name: str(value) for name, value in candidate.parameters.items()},
        **dataset,
        **{name: value for name, value in served.signature.details.items() if name.startswith(("learned_", "judged_"))},
        "horizon_ms": str(horizon_ms),
        "windows_left_out": candidate.left_out,
        "judged_sha256": hashlib.sha256(candidate.artifact.to_bytes()).hexdigest(),
        "code": CODE_VERSION,
        "application": plan.application_hash,
        "views": view_version(plan),
        "seed": str(model.settings.training.seed),
    }
    figures = {**candidate.figures, **verdict.figures, **({f"predecessor_{k}": v for k, v in reverse.figures.items()} if reverse else {})}
    return JobResult(
        True, verdict.reason, version, verdict.passed, reverse is not None and reverse.passed, address, store.uri_of(address),
        candidate.threshold, figures, details,
        _record(request, plan, version, verdict, store.uri_of(address), address, figures, details, candidate),
    )  # fmt: skip


def _examples(found: TrainingSet, model: ModelPlan) -> Examples:
    rows = found.rows.combine_chunks()
    columns = [_plain(rows.column(name)) for name in model.features]
    times = (rows.column(name).to_numpy().astype(np.int64) for name in ("_request_time", "_label_time"))
    request_ms, label_ms = times
    features = pa.RecordBatch.from_arrays(columns, names=list(model.features))
    return Examples(features, request_ms, label_ms, rows.column("_label").to_numpy().astype(np.float64))


def _plain(column: pa.ChunkedArray) -> pa.Array:
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type)
    # Models read 32 bits.
    cast = column.cast(pa.string() if text else pa.float32())
    return pa.concat_arrays(cast.chunks) if cast.num_chunks else pa.array([], cast.type)


def _load(store: ArtifactStore, address: str) -> OnnxScorer | None:
    return OnnxScorer(Artifact.from_bytes(store.get(address))) if address else None


def _against(examples: Examples, split: Split, challenger: OnnxScorer | None, champion: OnnxScorer | None, model: ModelPlan) -> Verdict:
    learned = [int(scorer.signature.details["learned_until_ms"]) for scorer in (challenger, champion) if scorer is not None]
    rows = split.gate(examples, max(learned))
    gate = model.settings.gate

    def scores(scorer: OnnxScorer | None) -> NDArray[np.float64]:
        default = model.kind.default_scores(model.settings.fallback.default)
        return np.broadcast_to(default, (len(rows), *default.shape)) if scorer is None else scorer.score(rows.features)

    return judge(rows.labels, scores(challenger), scores(champion), rows.request_ms, gate.alpha, gate.min_rows, model.settings.training.min_positives)


def _failed(version: str, reason: str, details: dict[str, str] | None = None) -> JobResult:
    return JobResult(False, reason, version, False, False, "", "", 0.5, {}, details or {})


def _put(store: ArtifactStore, content: bytes) -> str:
    """Store a model; a disk that is full for a moment does not cost the training."""
    for wait_s in _PUT_WAITS_S:
        try:
            return store.put(content)
        except TransientError as problem:
            log.warning("the model could not be stored, trying again: %s", problem)
            time.sleep(wait_s)
    return store.put(content)


def _record(
    request: JobRequest,
    plan: Plan,
    version: str,
    verdict: Verdict,
    uri: str,
    address: str,
    figures: dict[str, float],
    details: dict[str, str],
    candidate: Candidate,
) -> dict[str, Any]:
    """Return what the registry is to be told (`ModelRegistry.record`); not by this process: the registry may be away, and nothing waits for it."""
    asked = request.retraining
    tags = {
        "decision_id": asked["decision_id"],
        "trigger": asked["trigger"],
        "owner": plan.application.owner_of("models", asked["model"]),
        "artifact_sha256": address,
        "gate": "passed" if verdict.passed else "refused",
        "reason": verdict.reason,
        **{name: value for name, value in details.items() if name not in candidate.parameters},
    }
    finite = {name: value for name, value in figures.items() if np.isfinite(value)}
    parameters = {name: str(value) for name, value in candidate.parameters.items()}
    return {"model": asked["model"], "version": version, "artifact_uri": uri, "tags": tags, "parameters": parameters, "metrics": finite}


def work(source: Path, target: Path) -> None:
    """Read a request, write a result."""
    result = run(JobRequest(**json.loads(source.read_text(encoding="utf-8"))))
    part = target.with_suffix(".part")
    part.write_text(json.dumps(asdict(result)), encoding="utf-8")
    part.rename(target)


if __name__ == "__main__":
    raise SystemExit(serve(work))
