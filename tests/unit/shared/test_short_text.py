"""What users write into a text must not make a record, or state, outgrow its bounds."""

import doctest
from pathlib import Path

from tidemill.shared import short_text as module
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.short_text import LONGEST_TEXT, short_text
from tidemill.shared.statistics.histogram import Tally

SCHEMAS = Path(__file__).parents[3] / "schemas"


def test_the_example_holds() -> None:
    assert doctest.testmod(module).failed == 0


def test_texts_that_differ_stay_different() -> None:
    one, other = short_text("x" * 5_000 + "a"), short_text("x" * 5_000 + "b")
    assert one != other and len(one) < 2_100
    assert short_text("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT


def test_an_event_about_a_huge_category_fits_its_topic() -> None:
    codec = RecordCodec(MemorySchemaRegistry(), "d", (SCHEMAS / "drift.avsc").read_text(), LONGEST_TEXT)
    event = {
        "drift_id": "1", "model": "m", "journal_partition": 0, "journal_offset": 1, "journal_time": 2, "kind": "range", "subject": "s" * 10**6,
        "detector": "d", "severity": "warning", "statistic": 0.5, "threshold": 0.1, "evidence": {"c" * 10**6: 1.0, "d" * 10**6: 2.0},
        "detail": "e" * 10**6,
    }  # fmt: skip
    written = codec.encode(event)
    assert len(written) < 10_000
    again = codec.decode(written)
    assert sorted(again["evidence"].values()) == [1.0, 2.0] and again["detail"].startswith("eee") and "1000000 characters" in again["detail"]


def test_huge_categories_are_counted_apart_in_little_room() -> None:
    huge = [str(i) * 100_000 for i in range(10)]
    tally = Tally.of([*huge, *huge[:3], None, "small"])
    assert sorted(tally.counts.values()) == [1] * 8 + [2] * 3 and tally.counts["small"] == 1
    assert len(str(tally.snapshot())) < 5_000
