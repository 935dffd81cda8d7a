"""W5's model: LightGBM of 100 trees on the fraud vector, put into service through the deployments log like any other."""

from collections.abc import Mapping
from pathlib import Path

import lightgbm
import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.export import lightgbm_to_onnx
from tidemill.shared.models.signature import Column, Signature

MODEL, VERSION = "fraud", "benchmark-1"
TREES, LEAVES, SEED = 100, 31, 7
_ROWS, _PARITY_ROWS = 50_000, 16
_SCHEMA = Path(__file__).parents[1] / "schemas" / "deployment.avsc"


def train(plan: Plan, vectors: Mapping[str, NDArray[np.float64]]) -> Artifact:
    """Fit the model to vectors of the workload.

    Parameters
    ----------
    vectors
        The oracle's, under the application's feature names. The label is made up (unusually high spending), so that the trees have
        something to split on.
    """
    features = plan.models[MODEL].features
    matrix = np.column_stack([vectors[name][:_ROWS] for name in features]).astype(np.float32)
    random = np.random.default_rng(SEED + 1)  # the seed itself has drawn the accounts
    unusual = matrix[:, features.index("spent__sum_5m")] > 3 * matrix[:, features.index("spent__mean_24h")]
    label = (random.random(len(matrix)) < np.where(unusual, 0.3, 0.02)).astype(np.float64)
    settings = {"objective": "binary", "num_leaves": LEAVES, "seed": SEED, "deterministic": True, "force_row_wise": True, "num_threads": 1}
    booster = lightgbm.train({**settings, "verbosity": -1}, lightgbm.Dataset(matrix, label), TREES)
    rows = matrix[:_PARITY_ROWS]
    signature = Signature(
        model=MODEL,
        version=VERSION,
        family="lightgbm",
        columns=tuple(Column(name=name, type="double") for name in features),
        threshold=0.5,
        parity_rows=tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in rows),
        parity_scores=tuple(float(score) for score in np.asarray(booster.predict(rows, num_threads=1))),
    )
    return Artifact(signature, lightgbm_to_onnx(booster, len(features)))


def deploy(plan: Plan, artifact: Artifact, artifacts: str, registry: SchemaRegistry, bootstrap_servers: str) -> None:
    """Store the artifact and append its promotion to the deployments log."""
    topic = plan.topics.deployments
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    for record in promotion(plan, artifact, ArtifactStore(artifacts), registry):
        producer.produce(topic, record, MODEL.encode())
    if producer.flush(30):
        raise TimeoutError(f"{topic}: the broker did not take the deployment within 30 s")


def promotion(plan: Plan, artifact: Artifact, store: ArtifactStore, registry: SchemaRegistry) -> list[bytes]:
    """Store the artifact; return the records of the deployments log that put it into service."""
    address = store.put(artifact.to_bytes())
    codec = RecordCodec(registry, f"{plan.topics.deployments}-tidemill.Deployment", _SCHEMA.read_text(encoding="utf-8"))
    shared = {"decision_id": "benchmark", "model": MODEL, "version": VERSION, "journal_partition": 0, "journal_offset": 0, "journal_time": 0}
    details = {"artifact_sha256": address, "artifact_uri": store.uri_of(address), "share": 1.0, "threshold": 0.5, "figures": {}, "details": {}}
    events = enumerate(("registered", "gate_passed", "promoted"))
    return [codec.encode({**shared, **details, "sequence": n, "parent": n - 1, "event": event, "reason": "benchmark"}) for n, event in events]
