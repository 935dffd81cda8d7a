"""What one record says touches its own entity: the vectors of all others are bit for bit those of a run without it."""

import json
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.task import StepContext

PLAN = load_plan(Path(__file__).parents[2] / "examples" / "payments")
NOW, YEAR_9999 = 1_760_000_000_000, 253_402_000_000_000
IDLE = frozenset(TopicPartition(stream.topic, 0) for stream in PLAN.streams.values())
NUMBERS = ["1e400", "-1e400", "1.7e308", "-1.7e308", "1e200", "5e-324", "-0.0", "0", "3.5e38", "1e16"]
INSTANTS = [YEAR_9999, NOW + 301_000, NOW + 299_000, NOW, 0, -62_135_000_000_000, 2**62, -(2**63)]
STAMPS = [NOW, YEAR_9999, -1, 0, 2**62, -(2**63), NOW + 60_000]
Raw = tuple[bytes | None, bytes | None, int]


def payment(identity: str, account: str, at: int, amount: str) -> bytes:
    row = {"payment_id": identity, "account_id": account, "merchant_id": "m", "currency": "EUR", "country": "DE", "event_time": at, "amount": 0.25}
    return json.dumps(row).replace("0.25", amount).encode()


@st.composite
def attacks(draw: st.DrawFn) -> Raw:
    """One hostile record of an account of its own, and its timestamp."""
    stamp = draw(st.sampled_from(STAMPS))
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.sampled_from([None, b"", b"a0", HEARTBEAT_KEY])), None, stamp
    if kind == 1:
        return b"k", draw(st.sampled_from([b"{}", b"null", b"\x00\x00\x00\x00\x09x", b"", b"{" * 50])), stamp
    identity, account = f"evil{draw(st.integers(0, 3))}", f"evil{draw(st.integers(0, 1))}"
    return b"k", payment(identity, account, draw(st.sampled_from(INSTANTS)), draw(st.sampled_from(NUMBERS))), stamp


def vectors(steps: list[list[tuple[bool, Raw]]], attacked: bool) -> list[dict[str, object]]:
    """Run ingestion and features live; returns the vectors of the good accounts without their places in the journal."""
    registry = MemorySchemaRegistry()
    ingestion, features, decoder = IngestionTask(PLAN, registry, 0, "live"), FeaturesCore(PLAN), JournalDecoder(PLAN, registry)
    rows: list[dict[str, object]] = []
    read = written = 0
    for number, step in enumerate(steps):
        records = [raw for good, raw in step if good or attacked]
        n, now = len(records), NOW + 1_000 * number
        keys, values, stamps = [raw[0] for raw in records], [raw[1] for raw in records], np.array([raw[2] for raw in records], np.int64)
        raw = [Records(PLAN.streams["payments"].topic, 0, np.arange(read, read + n), stamps, keys, values)] if n else []
        read += n
        for emission in ingestion.process(raw, StepContext(now, IDLE, 1_000 * number)).emissions:
            if emission.topic == PLAN.topics.journal:
                places = np.arange(written, written + len(emission))
                written += len(emission)
                batch = decoder.decode(Records(emission.topic, 0, places, np.zeros(len(emission), np.int64), emission.keys, emission.values))
                rows += features.process(batch).to_pylist()
    return [{name: value for name, value in row.items() if name != "_journal_offset"} for row in rows if str(row["_request_id"]).startswith("good")]


@settings(max_examples=examples(25), deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_hostile_records_change_nothing_of_others(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps: list[list[tuple[bool, Raw]]] = []
    for number in range(10):
        now = NOW + 1_000 * number
        step: list[tuple[bool, Raw]] = [(False, attack) for attack in data.draw(st.lists(attacks(), max_size=4))]
        for k in range(3):
            at = now - int(rng.choice([0, 500, 119_000]))
            value = payment(f"good{number}-{k}", f"a{int(rng.integers(0, 2))}", at, f"{float(rng.integers(1, 1000)) / 100}")
            step.insert(int(rng.integers(0, len(step) + 1)), (True, (b"k", value, now)))
        steps.append(step)
    alone = vectors(steps, attacked=False)
    assert len(alone) == 30
    assert vectors(steps, attacked=True) == alone
