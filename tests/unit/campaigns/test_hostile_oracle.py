"""The oracle of the hostile campaign says what is wrong with a run; it does not end over it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from campaigns.hostile.application import write_application
from campaigns.hostile.messages import good_payment
from campaigns.hostile.oracle import judge
from tidemill.audit.history import RunHistory
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records


def test_times_that_no_date_is_in_a_journal_do_not_end_it(tmp_path: Path) -> None:
    """Ingestion lets none in: a run that has some is one that the oracle is there for."""
    plan, registry = load_plan(write_application(tmp_path / "app", "shop", 1)), MemorySchemaRegistry()
    codec = RecordCodec(registry, "shop-journal-campaign.PaymentsEntry", plan.streams["payments"].entry_schema)
    payment = good_payment(1, 1_760_000_000_000, 1)
    envelope = {"_event_id": payment["payment_id"], "_late": False, "_source_partition": 0, "_source_offset": 0, "each": 1.0}
    value = codec.encode({**payment, **envelope, "_journal_time": 2**61, "_event_time": -(2**61)})
    entries = Records("shop-journal", 0, np.zeros(1, np.int64), np.zeros(1, np.int64), [payment["account"].encode()], [value])
    history = RunHistory({0: [entries]}, {0: []}, {0: []}, pa.table({}), Counter(), 0, 0, 1, 1, [])
    verdict = judge(plan, registry, history, [], {payment["payment_id"]: payment}, Counter({payment["payment_id"]: 1}), 1)
    assert verdict.problems == ["partition 0: 1 vectors of good accounts expected, 0 written"]
