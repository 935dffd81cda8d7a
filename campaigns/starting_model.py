"""A model in service from the first request on: a campaign is shorter than what a first training waits for."""

import time
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.topics import CATALOGUE
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.export import logistic_to_onnx
from tidemill.shared.models.signature import Column, Signature

VERSION = "starting-model"
_ROWS, _CHECKED, _THRESHOLD = 2_000, 8, 0.5


def promote_starting_model(plan: Plan, model: str, broker: Broker, registry: SchemaRegistry, artifacts: ArtifactStore, seed: int) -> None:
    """Train a logistic regression on drawn rows and promote it, before any other deployment.

    Raises
    ------
    ValueError
        The model reads a column that is no number.
    """
    address = artifacts.put(_trained(plan, model, seed).to_bytes())
    subject, schema = f"{plan.topics.deployments}-tidemill.Deployment", (CATALOGUE.parent / "deployment.avsc").read_text(encoding="utf-8")
    codec, sink, now_ms = RecordCodec(registry, subject, schema), broker.sink(), time.time_ns() // 1_000_000
    for sequence, event in enumerate(("registered", "promoted")):
        record: dict[str, Any] = {
            "sequence": sequence, "parent": sequence - 1, "decision_id": f"{VERSION}-{sequence}", "model": model, "event": event, "version": VERSION,
            "journal_partition": 0, "journal_offset": 0, "journal_time": now_ms, "artifact_sha256": address, "artifact_uri": "", "share": 1.0,
            "threshold": _THRESHOLD, "figures": {}, "details": {}, "reason": "the campaign's own",
        }  # fmt: skip
        sink.publish(plan.topics.deployments, model.encode(), codec.encode(record), now_ms, 0)
    sink.flush()
    sink.close()


def _trained(plan: Plan, model: str, seed: int) -> Artifact:
    names = plan.models[model].features
    types = {name: str(plan.vector_arrow.field(name).type) for name in names}
    if texts := [name for name, kind in types.items() if kind != "double"]:
        raise ValueError(f"expected columns of numbers, found {texts[0]} of type {types[texts[0]]}")
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(2.0, size=(_ROWS, len(names)))
    label = rng.random(_ROWS) < expit(matrix[:, 0] - matrix.mean(axis=1) - 3.0)
    means, scales = matrix.mean(axis=0), matrix.std(axis=0)
    fitted = LogisticRegression().fit((matrix - means) / scales, label)
    onnx = logistic_to_onnx(means, scales, fitted.coef_[0], float(fitted.intercept_[0]))
    rows = matrix[:_CHECKED].astype(np.float32).astype(np.float64)
    scores = fitted.predict_proba((rows - means) / scales)[:, 1]
    signature = Signature(
        model=model, version=VERSION, family="logistic_regression", columns=tuple(Column(name=name, type="double") for name in names),
        threshold=_THRESHOLD, parity_rows=tuple(map(tuple, rows.tolist())), parity_scores=tuple(scores.tolist()),
    )  # fmt: skip
    return Artifact(signature, onnx)
