"""A training set of a model with a control share says how many requests each row stands for, and leaves out what was hidden."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.journals import random_journal
from tests.unit.tidemill.audit.test_control_share import application
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.lake.training_set import training_set

SCHEMA = arrow_schema(message_schema("outcome"))


def test_rows_have_weights_and_what_was_acted_on_is_left_out(tmp_path: Path) -> None:
    plan = load_plan(application(tmp_path, "{share: 0.25, hidden_when: predicted = 1}"))
    vectors = FeaturesCore(plan).process(random_journal(plan, 60, np.random.default_rng(2)))
    lake = Lake(str(tmp_path), "payments")
    offsets = vectors.column("_journal_offset").to_pylist()
    marks = [(True, 0.25), (False, 0.25), (False, 1.0), (True, 1.0), (None, None)]
    rows = [
        {field.name: None if field.nullable else 0 for field in SCHEMA}
        | {"request_id": str(i), "model": "fraud", "status": "labelled", "label": 1.0, "model_version": "v", "variant": "champion"}
        | {"request_journal_offset": offset, "journal_time": 2_000_000_000_000, "control": marks[i % 5][0], "propensity": marks[i % 5][1]}
        for i, offset in enumerate(offsets)
    ]
    before = [name for name in SCHEMA.names if name not in ("control", "propensity")]
    old = Lake(str(tmp_path / "old"), "payments")
    for one, names in ((lake, SCHEMA.names), (old, before)):
        one.append(VECTORS, pa.Table.from_batches([vectors]), "v:0", range(vectors.num_rows))
        one.append(OUTCOMES, pa.Table.from_pylist(rows, schema=SCHEMA).select(names), "o:0", range(len(rows)))
    made = training_set(lake, plan.models["fraud"], 1 << 50)
    expected = {offset: [4.0, None, 1.0, 1.0, 1.0][i % 5] for i, offset in enumerate(offsets)}
    weights = dict(zip(made.rows["_journal_offset"].to_pylist(), made.rows["_weight"].to_pylist(), strict=True))
    assert weights == {offset: weight for offset, weight in expected.items() if weight is not None}
    assert made.version["rows_without_weight"] == str(sum(weight is None for weight in expected.values()))
    # A table of before there were marks teaches as it did.
    plain = training_set(old, plan.models["fraud"], 1 << 50)
    assert "_weight" not in plain.rows.column_names and plain.rows.num_rows == len(rows)
