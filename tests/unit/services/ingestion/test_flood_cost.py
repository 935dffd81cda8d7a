"""A record that is refused costs little, whatever is wrong with it and however many there are; its dead letter says what it did before."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from deltalake import DeltaTable

from tests.effort import effort
from tests.flooded_shop import write_shop
from tidemill.services.ingestion.sizes import Quarantine
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.records import Emission, Records, Step, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW = 1_760_000_000_000
ROOT = Path(__file__).parents[4]
REJECTED = fastavro.parse_schema(json.loads((ROOT / "schemas" / "rejected.avsc").read_text("utf-8")))
LIVE = StepContext(NOW, frozenset({TopicPartition("shop-orders", 0), TopicPartition("shop-parcels", 0)}))


def build(folder: Path, quarantine: Quarantine | None = None) -> IngestionTask:
    return IngestionTask(load_plan(write_shop(folder)), MemorySchemaRegistry(), 0, "live", quarantine=quarantine)


def run(topic: str, first: int, values: list[bytes], keys: list[bytes | None] | None = None, times: list[int] | None = None) -> Records:
    n = len(values)
    return Records(topic, 0, np.arange(first, first + n), np.array(times or [NOW] * n), keys or [b"k"] * n, list(values))


def letters(step: Step) -> list[Any]:
    """Decode the dead letters with fastavro."""
    (emission,) = [one for one in step.emissions if one.topic == "shop-rejected"]
    return [fastavro.schemaless_reader(io.BytesIO((value or b"")[5:]), REJECTED, None) for value in emission.values]


def emission(step: Step) -> Emission:
    (rejected,) = [one for one in step.emissions if one.topic == "shop-rejected"]
    return rejected


@pytest.mark.parametrize("junk", [b"{}", b"\x00\x00\x00\x00\x07junk", b"junk"])
def test_a_flood_before_the_first_good_record_is_one_stretch_and_costs_a_few_calls_each(tmp_path: Path, junk: bytes) -> None:
    """To the sequencer each refused record was a stretch of its own: array by array, a hundred microseconds each."""
    task = build(tmp_path)
    task.process([run("shop-orders", 0, [junk])], LIVE)
    efforts = []
    for begin, count in ((1, 1_000), (1_001, 10_000)):
        with effort() as cost:
            step = task.process([run("shop-orders", begin, [junk] * count)], LIVE)
        assert len(emission(step)) == count
        efforts.append(cost)
    many = efforts[1]
    assert many.calls < 60 * 10_000
    arrays = [sum(calls for name, calls in one.c_functions.items() if name.startswith("ndarray.")) for one in efforts]
    assert arrays[1] - arrays[0] <= 9_000, "one letter is cut out of each; no other array is made for a record"


def test_letters_of_two_streams_say_what_came_in_the_order_of_the_merge(tmp_path: Path) -> None:
    orders = run("shop-orders", 5, [b"{}", b"nonsense", '{"id": "ü", "at": "x"}'.encode()], [b"a", None, b"\xff"], [NOW - 9, NOW - 7, NOW - 5])
    parcels = run("shop-parcels", 8, [b"", b'{"id": 7}'], [None, b"b" * 3_000], [NOW - 8, NOW - 6])
    step = build(tmp_path).process([orders, parcels], LIVE)
    dead = letters(step)
    assert [letter["source_offset"] for letter in dead] == [5, 8, 6, 9, 7]
    given = {(one.topic, offset): row for one in (orders, parcels) for offset, row in zip(one.offsets.tolist(), range(3), strict=False)}
    for letter in dead:
        source = orders if letter["source_topic"] == "shop-orders" else parcels
        row = given[source.topic, letter["source_offset"]]
        assert (letter["key"], letter["value"]) == (source.keys[row], source.values[row])
        assert letter["source_timestamp"] == datetime.fromtimestamp(int(source.timestamps_ms[row]) / 1_000, UTC)
        assert letter["stage"] == "ingestion" and letter["value_bytes"] is None and letter["quarantined_in"] is None
    reasons = ["invalid_json", "not_framed", "not_framed", "invalid_json", "invalid_json"]
    assert [letter["reason"] for letter in dead] == reasons and all(letter["detail"] for letter in dead)
    assert list(emission(step).keys) == [b"a", None, None, b"b" * 1_024, b"\xff"]


def test_originals_that_outgrow_the_topic_are_kept_in_one_commit_of_the_lake(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"), "shop")
    task = build(tmp_path, Quarantine(lake.append, lake.root))
    huge = [b"x" * 1_100_000 + bytes([number]) for number in range(4)]
    step = task.process([run("shop-orders", 0, [huge[0], b"{}", *huge[1:]])], LIVE)
    dead = letters(step)
    assert [letter["source_offset"] for letter in dead] == [0, 1, 2, 3, 4]
    assert dead[1]["value"] == b"{}" and dead[1]["quarantined_in"] is None
    assert all("table quarantine" in str(letter["quarantined_in"]) and letter["value_bytes"] == 1_100_001 for letter in (dead[0], *dead[2:]))
    table = DeltaTable(lake.uri("quarantine"))
    kept = table.to_pyarrow_table().sort_by("source_offset")
    assert kept.column("source_offset").to_pylist() == [0, 2, 3, 4] and kept.column("value").to_pylist() == huge
    # Made empty, then one commit for all of them.
    assert table.version() == 1
