"""Batches land in the lake once, however often they are written; training sets see what was known."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pytest

from tests.unit.services.drift.stream import shop
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.view_version import feature_versions
from tidemill.shared.lake.names import OUTCOMES, VECTORS, VIEW_SWITCHES
from tidemill.shared.lake.switches import SWITCHES
from tidemill.shared.lake.tables import Lake, LakeTypeError
from tidemill.shared.lake.training_set import content_hash, training_set
from tidemill.shared.log.errors import TransientError

ROOT = Path(__file__).parents[4]


def rows(begin: int, end: int) -> pa.Table:
    at = np.arange(begin, end)
    return pa.table({"n": at, "_t": pa.array(at * 1_000).cast(pa.timestamp("ms"))})


def test_a_batch_written_twice_is_there_once(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "app")
    assert lake.append("t", rows(0, 10), "topic:0", np.arange(0, 10)) == 10
    assert lake.append("t", rows(0, 10), "topic:0", np.arange(0, 10)) == 0
    assert lake.append("t", rows(5, 15), "topic:0", np.arange(5, 15)) == 5, "an append that reaches further adds the rest"
    assert sorted(lake.read("t", ["n"], 10**9, "_t").column("n").to_pylist()) == list(range(15))


def test_writers_do_not_see_each_others_offsets(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "app")
    lake.append("t", rows(0, 3), "topic:0", np.arange(3))
    assert lake.append("t", rows(0, 3), "topic:1", np.arange(3)) == 3


def test_reading_stops_before_an_instant_and_at_a_version(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "app")
    lake.append("t", rows(0, 5), "w", np.arange(5))
    old = lake.version("t")
    lake.append("t", rows(5, 9), "w", np.arange(5, 9))
    assert lake.read("t", ["n"], 3_000, "_t").column("n").to_pylist() == [0, 1, 2]
    assert lake.read("t", ["n"], 10**9, "_t", old).num_rows == 5
    assert lake.read("t", ["_t"], 2_000, "_t").column("_t").to_pylist() == [0, 1_000], "times are milliseconds"


def test_a_store_that_cannot_be_written_is_a_transient_error(tmp_path: Path) -> None:
    (tmp_path / "app").write_text("a file where the folder should be")
    with pytest.raises(TransientError, match="app/t"):
        Lake(str(tmp_path), "app").append("t", rows(0, 1), "w", [0])


@pytest.mark.parametrize("first", [True, False], ids=["into an empty lake", "after earlier rows"])
def test_a_writer_that_was_paused_between_look_and_commit_appends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    lake = Lake(str(tmp_path), "app")
    begin = 0 if first else 100
    if not first:
        lake.append("t", rows(0, 100), "topic:0", np.arange(100))
    write = deltalake.write_deltalake

    def paused(*given: Any, **named: Any) -> None:
        monkeypatch.setattr("tidemill.shared.lake.tables.write_deltalake", write)
        assert Lake(str(tmp_path), "app").append("t", rows(begin, begin + 100), "topic:0", np.arange(begin, begin + 100)) == 100
        assert Lake(str(tmp_path), "app").append("t", rows(0, 7), "topic:1", np.arange(7)) == 7
        write(*given, **named)

    monkeypatch.setattr("tidemill.shared.lake.tables.write_deltalake", paused)
    with pytest.raises(TransientError):
        lake.append("t", rows(begin, begin + 50), "topic:0", np.arange(begin, begin + 50))
    assert lake.append("t", rows(begin, begin + 50), "topic:0", np.arange(begin, begin + 50)) == 0, "the retry finds everything there"
    assert lake.append("t", rows(begin, begin + 120), "topic:0", np.arange(begin, begin + 120)) == 20, "the recorded offset has not moved back"
    assert sorted(lake.dataset("t").to_table().column("n").to_pylist()) == sorted([*range(begin + 120), *range(7)])


def test_a_new_column_is_added_and_one_that_goes_is_null(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "app")
    lake.append("t", rows(0, 2), "w", [0, 1])
    lake.append("t", rows(2, 3).append_column("new", pa.array([2.5])), "w", [2])
    lake.append("t", rows(3, 4), "w", [3])
    table = lake.dataset("t").to_table().sort_by("n")
    assert table.column("n").to_pylist() == [0, 1, 2, 3]
    assert table.column("new").to_pylist() == [None, None, 2.5, None]


def test_a_column_of_another_type_is_refused_and_not_cut(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "app")
    lake.append("t", rows(0, 1), "w", [0])
    with pytest.raises(LakeTypeError, match="expected n of type long, which the table has, got double"):
        lake.append("t", pa.table({"n": [1.5], "_t": pa.array([1], pa.timestamp("ms"))}), "w", [1])


def test_a_full_disk_is_a_transient_error_and_the_retry_is_right(tmp_path: Path) -> None:
    script = """if True:
        import resource, sys, numpy as np, pyarrow as pa
        from tidemill.shared.lake.tables import Lake
        from tidemill.shared.log.errors import TransientError
        lake = Lake(sys.argv[1], "app")
        lake.append("t", pa.table({"n": np.arange(3)}), "w", np.arange(3))
        big = pa.table({"n": np.random.default_rng(1).integers(0, 2**62, 50_000)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        try:
            lake.append("t", big, "w", np.arange(3, 50_003))
        except TransientError as problem:
            print("transient")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(lake.append("t", big, "w", np.arange(3, 50_003)), lake.dataset("t").to_table().num_rows)
    """
    process = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert process.stdout.split() == ["transient", "50000", "50003"], process.stderr


def test_a_training_set_knows_each_label_as_it_was_known_then(tmp_path: Path) -> None:
    model = shop(tmp_path).models["sent_back"]
    lake = Lake(str(tmp_path / "lake"), "shop")
    times = pa.timestamp("ms")
    vectors = {
        "_journal_partition": pa.array([0] * 4, pa.int32()), "_journal_offset": [0, 1, 2, 3], "_journal_time": pa.array([0, 10, 20, 30]).cast(times),
        "_ask": ["orders"] * 4, "amount": [1.0, 2.0, None, 4.0], "weight": [0.5] * 4, "country": ["x", "y", None, "x"],
    }  # fmt: skip
    said = [
        (0, 40, "labelled", 1.0, 0),
        (1, 50, "timeout", None, 0),
        (2, 60, "labelled", 0.0, 0),
        (0, 70, "corrected", 0.0, 1),
        (3, 90, "labelled", 1.0, 0),
    ]
    outcomes = {
        "journal_partition": pa.array([0] * 5, pa.int32()), "request_journal_offset": [row[0] for row in said],
        "journal_time": pa.array([row[1] for row in said]).cast(times), "model": ["sent_back"] * 5, "status": [row[2] for row in said],
        "label": [row[3] for row in said], "revision": pa.array([row[4] for row in said], pa.int32()),
    }  # fmt: skip
    lake.append(VECTORS, pa.table(vectors), "v:0", range(4))
    lake.append(OUTCOMES, pa.table(outcomes), "o:0", range(5))

    def known(before: int) -> list[tuple[int, float]]:
        examples = training_set(lake, model, before).rows
        return list(zip(examples.column("_journal_offset").to_pylist(), examples.column("_label").to_pylist(), strict=True))

    assert known(65) == [(0, 1.0), (2, 0.0)]
    assert known(80) == [(0, 0.0), (2, 0.0)], "corrected by then"
    assert known(1_000) == [(0, 0.0), (2, 0.0), (3, 1.0)]


def test_the_content_hash_depends_on_content_and_order_only() -> None:
    table = pa.table({"a": [1.0, None, 3.0], "b": ["x", None, "yz"]})
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert content_hash(table) == content_hash(pieces)
    others = [table.slice(0, 2), table.take(pa.array([1, 0, 2])), pa.table({"a": [1.0, 0.0, 3.0], "b": ["x", None, "yz"]}),
              pa.table({"a": [1.0, None, 3.0], "b": ["x", "", "yz"]}), pa.table({"a": [1.0, None, 3.0], "b": ["xy", None, "z"]})]  # fmt: skip
    assert len({content_hash(other) for other in [table, *others]}) == 6


def test_vectors_of_another_meaning_are_left_out_and_counted(tmp_path: Path) -> None:
    times = pa.timestamp("ms")
    plan = load_plan(ROOT / "examples" / "flights")
    model = plan.models["late_arrival"]
    now = dict(feature_versions(plan))
    n = 6
    columns = {feature.name: pa.array(["x"] * n if feature.type == "string" else [1.0] * n) for feature in plan.features}
    places = {"_journal_partition": pa.array([0] * n, pa.int32()), "_journal_offset": range(n), "_ask": ["departures"] * n}
    lake = Lake(str(tmp_path), "flights")
    lake.append(VECTORS, pa.table({**places, "_journal_time": pa.array(range(n)).cast(times), **columns}), "v", range(n))
    outcomes = {
        "journal_partition": pa.array([0] * n, pa.int32()), "request_journal_offset": range(n), "journal_time": pa.array([10] * n).cast(times),
        "model": ["late_arrival"] * n, "status": ["labelled"] * n, "label": [1.0] * n, "revision": pa.array([0] * n, pa.int32()),
    }  # fmt: skip
    lake.append(OUTCOMES, pa.table(outcomes), "o", range(n))
    for place, (offset, features) in enumerate([(0, {**now, "hour": "another"}), (2, {**now, "unread": "1"}), (5, {**now, "distance": "another"})]):
        mark = {
            "journal_partition": 0, "journal_offset": offset, "journal_time": 0, "view_version": f"v{place}", "previous": "", "application_hash": "",
            "code_version": "", "features": json.dumps(features), "log_offset": place,
        }  # fmt: skip
        lake.append(VIEW_SWITCHES, pa.Table.from_pylist([mark], schema=SWITCHES), "s", [place])
    made = training_set(lake, model, 100, now)
    assert made.rows.column("_journal_offset").to_pylist() == [2, 3, 4] and made.version["rows_of_other_views"] == "3"
    everything = training_set(lake, model, 100)
    assert everything.rows.num_rows == n and everything.version["rows_of_other_views"] == "0"
