"""A control share from the application file to the audit: marked, the same in any batching, and recomputed bit for bit."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.tidemill.audit.test_audit import COUNT, PAYMENTS, Run, records
from tidemill.audit.audit import audit
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.serving import Serving
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer

SHARE = 0.25


def application(folder: Path, control: str) -> Path:
    made = folder / "payments"
    shutil.copytree(PAYMENTS, made)
    text = (made / "app.yaml").read_text()
    (made / "app.yaml").write_text(text.replace("    slices: [country]\n", f"    slices: [country]\n    control: {control}\n"))
    return made


def fnv(identity: str, salt: str) -> float:
    """The documented hash in plain Python: FNV-1a, MurmurHash3's finaliser, the salt, the finaliser."""
    mask = 2**64 - 1

    def mixed(value: int) -> int:
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            value = ((value ^ (value >> 33)) * factor) & mask
        return value ^ (value >> 33)

    value = 0xCBF29CE484222325
    for byte in identity.encode():
        value = ((value ^ byte) * 0x100000001B3) & mask
    return (mixed(mixed(value) ^ int(salt[:16], 16)) >> 11) / 2**53


def test_marks_are_the_hash_of_the_request_and_the_audit_recomputes_them(tmp_path: Path) -> None:
    plan = load_plan(application(tmp_path, f"{{share: {SHARE}, hidden_when: predicted = 1}}"))
    registry, store = MemorySchemaRegistry(), ArtifactStore(str(tmp_path / "artifacts"))
    run = Run(plan, registry, store)
    result = audit(plan, registry, store, run)
    assert result.clean and result.predictions_compared == COUNT
    control = plan.models["fraud"].control
    assert control is not None
    batch = ColumnDecoder(registry, message_schema("prediction")).decode(run.answers.values).batch
    drawn = batch.column("control").to_pylist()
    assert drawn == [fnv(identity, control.salt) < SHARE for identity in batch.column("request_id").to_pylist()]
    assert abs(np.mean(drawn) - SHARE) < 4 * np.sqrt(SHARE * (1 - SHARE) / COUNT)
    predicted = batch.column("predicted").to_pylist()
    assert batch.column("propensity").to_pylist() == [SHARE if one else 1.0 for one in predicted] and 0 < sum(predicted) < COUNT

    # One mark turned round is one mismatch.
    place = batch.schema.get_field_index("control")
    flipped = batch.set_column(place, batch.schema.field(place), pa.array([not drawn[0], *drawn[1:]]))
    encoder = ColumnEncoder(registry, f"{plan.topics.predictions}-tidemill.Prediction", message_schema("prediction"))
    run.answers = records(plan.topics.predictions, encoder.encode(flipped))
    assert audit(plan, registry, store, run).prediction_mismatches == 1


def test_any_batching_marks_the_same_and_models_without_a_share_have_no_marks(tmp_path: Path) -> None:
    plan, bare = load_plan(application(tmp_path, f"{{share: {SHARE}, hidden_when: score >= 0.1}}")), load_plan(PAYMENTS)
    registry, store = MemorySchemaRegistry(), ArtifactStore(str(tmp_path / "artifacts"))
    run = Run(plan, registry, store)
    vectors = ColumnDecoder(registry, plan.vector_schema).decode(run.asked.values).batch
    serving = {"fraud": Serving("v1", 1, 0.4, OnnxScorer(Artifact.from_bytes(store.get(run.address))), None)}
    whole = ScoringCore(plan).process(vectors, serving).batch
    single = [ScoringCore(plan).process(vectors.slice(i, 1), serving).batch.to_pylist()[0] for i in range(40)]
    assert whole.slice(0, 40).to_pylist() == single
    assert [row["propensity"] for row in whole.to_pylist()] == [SHARE if row["score"] >= 0.1 else 1.0 for row in whole.to_pylist()]
    plain = ScoringCore(bare).process(vectors, serving).batch
    assert plain.column("control").null_count == plain.column("propensity").null_count == plain.num_rows
    names = [name for name in whole.schema.names if name not in ("control", "propensity")]
    assert plain.select(names).equals(whole.select(names))


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("{share: 0.05, hidden_when: amount > 3}", "a SQL expression over the answer (score, predicted, predicted_label, lower, upper)"),
        ("{share: 0.05, hidden_when: score + 1}", "a truth value: which answers hide their label"),
        ("{share: 1.0, hidden_when: predicted = 1}", "share"),
        ("{share: 0.0, hidden_when: predicted = 1}", "share"),
    ],
)
def test_a_wrong_control_share_is_refused_by_line(tmp_path: Path, control: str, words: str) -> None:
    folder = application(tmp_path, control)
    with pytest.raises(ApplicationError, match=r"app\.yaml:") as refusal:
        load_plan(folder)
    assert words in str(refusal.value)
