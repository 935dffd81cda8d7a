"""The offline twin against what was served: an archive written by the services' own code, recomputed in every way the commands offer."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from tests.archives import archive_journal
from tests.property.test_feature_engine import PLAN, as_batch, random_schedule
from tidemill.offline.backfill import Backfill, BackfillRange
from tidemill.offline.fold_start import StartRefusedError, check_start, longest_reach_ms, unbounded
from tidemill.offline.state_snapshot import load_snapshot, save_snapshot
from tidemill.services.cli.__main__ import app
from tidemill.shared.application.planning import load_plan
from tidemill.shared.lake.journal import ArchivedJournal, UnfitArchiveError
from tidemill.shared.lake.names import VECTORS
from tidemill.shared.lake.tables import Lake, delta_ready

pytestmark = pytest.mark.lasts(30)

ENGINE = Path(__file__).parents[3] / "applications" / "engine"
PLACE = [("_journal_partition", "ascending"), ("_journal_offset", "ascending")]
WINDOWS = {
    "aggregate": "[count, sum, min, max, {distinct: merchant}]",
    "windows": "[1m, {sliding: 4m, resolution: 1m}]",
}
runner = CliRunner()


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lake with two partitions of 400 and 300 records."""
    place = str(tmp_path_factory.mktemp("lake"))
    for partition, n in enumerate((400, 300)):
        archive_journal(PLAN, Lake(place, "engine"), partition, as_batch(random_schedule(np.random.default_rng(partition + 1), n)))
    return place


@pytest.fixture(scope="module")
def served(uri: str) -> pa.Table:
    return DeltaTable(Lake(uri, "engine").uri(VECTORS)).to_pyarrow_table().sort_by(PLACE)


def variant(folder: Path, *, views: str | None = None, derive: str | None = None) -> Path:
    """The engine's application with other views, or a derived column more."""
    target = folder / "variant"
    shutil.copytree(ENGINE, target)
    text = (target / "app.yaml").read_text()
    if views is not None:
        text = text[: text.index("views:")] + f"views:\n{views}\n" + text[text.index("models:") :]
        text = text.replace('["exact.*", "steps.*", "shops.*", "everything.*", "known_then.*", "fraud.*"]', '["v.*"]')
    if derive is not None:
        text = text.replace("allowed_lateness: 2m}", f"allowed_lateness: 2m, derive: {{{derive}}}}}", 1)
    (target / "app.yaml").write_text(text)
    return target


def same_bits(one: pa.Table, two: pa.Table) -> None:
    """Hold every value of two tables of vectors against each other: floats by their bits."""
    assert one.schema.names == two.schema.names and one.num_rows == two.num_rows > 0
    for name in one.schema.names:
        a, b = (table.column(name).combine_chunks() for table in (one, two))
        assert a.is_null().equals(b.is_null()), name
        if pa.types.is_floating(a.type):
            bits = [pc.fill_null(column, 0.0).to_numpy().view(np.int64) for column in (a, b)]
            np.testing.assert_array_equal(bits[0], bits[1], err_msg=name)
        else:
            assert a.equals(b.cast(a.type)), name


def command(*words: object) -> str:
    done = runner.invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_a_backfill_has_the_bits_that_were_served(uri: str, served: pa.Table, tmp_path: Path) -> None:
    assert "vectors of" in command("backfill", ENGINE, "--lake", uri, "--out", tmp_path / "all.parquet")
    file = pq.read_table(tmp_path / "all.parquet")
    assert file.schema.metadata[b"application_hash"].decode() == PLAN.application_hash
    same_bits(served, delta_ready(file))
    command("backfill", ENGINE, "--lake", uri, "--out", tmp_path / "table")
    same_bits(served, DeltaTable(tmp_path / "table").to_pyarrow_table().sort_by(PLACE))
    again = runner.invoke(app, ["backfill", str(ENGINE), "--lake", uri, "--out", str(tmp_path / "table")])
    assert again.exit_code == 1 and "expected no table" in again.output


@pytest.mark.parametrize("span", [3, 65_536])
def test_a_range_read_in_any_spans_is_that_part_of_what_was_served(uri: str, served: pa.Table, span: int) -> None:
    times = pc.cast(pc.cast(served.column("_journal_time"), pa.timestamp("ms", "UTC")), pa.int64()).to_numpy()
    begin, end = (int(np.quantile(times, q)) for q in (0.3, 0.7))
    parts = list(Backfill(PLAN, ArchivedJournal(Lake(uri, "engine"), PLAN, span), BackfillRange(begin, end)).vectors())
    assert len(parts) > 1
    same_bits(served.filter(pa.array((times >= begin) & (times < end))), delta_ready(pa.Table.from_batches(parts)))


def test_a_snapshot_continues_with_the_same_bits_and_can_be_saved_again(uri: str, served: pa.Table, tmp_path: Path) -> None:
    times = np.unique(pc.cast(pc.cast(served.column("_journal_time"), pa.timestamp("ms", "UTC")), pa.int64()).to_numpy())
    first, second = int(times[len(times) // 3]), int(times[2 * len(times) // 3])
    words = ["backfill", ENGINE, "--lake", uri]
    command(*words, "--to", first, "--save-state", tmp_path / "one")
    command(
        *words, "--from", first, "--to", second, "--from-state", tmp_path / "one", "--save-state", tmp_path / "two", "--out", tmp_path / "b.parquet"
    )
    command(*words, "--from", second, "--from-state", tmp_path / "two", "--out", tmp_path / "c.parquet")
    command(*words, "--from", first, "--out", tmp_path / "whole.parquet")
    parts = pa.concat_tables([pq.read_table(tmp_path / name) for name in ("b.parquet", "c.parquet")]).sort_by(PLACE)
    same_bits(pq.read_table(tmp_path / "whole.parquet"), parts)


def test_a_snapshot_is_refused_where_it_does_not_belong(uri: str, tmp_path: Path) -> None:
    journal = ArchivedJournal(Lake(uri, "engine"), PLAN)
    fold = Backfill(PLAN, journal, keep_state=True)
    list(fold.vectors())
    state = fold.snapshot()
    save_snapshot(tmp_path / "state", PLAN, state)
    assert load_snapshot(tmp_path / "state", PLAN) == state
    with pytest.raises(StartRefusedError, match="begins after the snapshot"):
        Backfill(PLAN, journal, state=state)
    other = load_plan(variant(tmp_path, derive="double_amount: amount * 2"))
    with pytest.raises(StartRefusedError, match="application_hash"):
        load_snapshot(tmp_path / "state", other)
    (tmp_path / "no").write_bytes(b"something else")
    with pytest.raises(StartRefusedError, match="--save-state"):
        load_snapshot(tmp_path / "no", PLAN)
    archive_journal(PLAN, Lake(str(tmp_path / "lake"), "engine"), 0, as_batch(random_schedule(np.random.default_rng(9), 60)))
    with pytest.raises(StartRefusedError, match="snapshot of this archive"):
        Backfill(PLAN, ArchivedJournal(Lake(str(tmp_path / "lake"), "engine"), PLAN), BackfillRange(from_ms=2**50), state)


def test_a_changed_view_is_computed_over_the_same_journal(uri: str, served: pa.Table, tmp_path: Path) -> None:
    views = "  v: {entity: account, source: payments, value: double_amount, aggregate: [count, sum], windows: [1m, all]}"
    changed = variant(tmp_path, views=views, derive="double_amount: amount * 2")
    assert load_plan(changed).application_hash != PLAN.application_hash
    command("backfill", changed, "--lake", uri, "--out", tmp_path / "v.parquet")
    new = pq.read_table(tmp_path / "v.parquet")
    assert new.column("v__count_all").to_pylist() == served.column("exact__count_all").to_pylist()
    doubled = [None if x is None else 2 * x for x in served.column("exact__sum_1m").to_pylist()]
    assert new.column("v__sum_1m").to_pylist() == doubled, "doubling is exact in binary"


def test_a_column_that_was_never_archived_is_an_error_that_names_it(uri: str, tmp_path: Path) -> None:
    changed = variant(tmp_path)
    schema = json.loads((changed / "schemas" / "payment.avsc").read_text())
    schema["fields"].append({"name": "channel", "type": "string"})
    (changed / "schemas" / "payment.avsc").write_text(json.dumps(schema))
    done = runner.invoke(app, ["backfill", str(changed), "--lake", uri, "--out", str(tmp_path / "x.parquet")])
    assert done.exit_code == 1 and "channel" in done.output and "journal_payments" in done.output
    assert not list(tmp_path.glob("x.parquet*"))
    with pytest.raises(UnfitArchiveError, match="--lake"):
        ArchivedJournal(Lake(str(tmp_path / "nothing"), "engine"), PLAN)


@pytest.mark.parametrize(
    ("aggregate", "windows", "why"),
    [
        ("[last]", "[1m]", "whole history"),
        ("[count]", "[1m, all]", "whole history"),
        ("[{decayed_mean: {half_life: 3m}}]", "[1m]", "whole history"),
        ("[count]", "[{session: 1m}]", "sessions"),
    ],
)
def test_only_windows_may_begin_in_the_middle(tmp_path: Path, aggregate: str, windows: str, why: str) -> None:
    plan = load_plan(
        variant(tmp_path, views=f"  v: {{entity: account, source: payments, value: amount, aggregate: {aggregate}, windows: {windows}}}")
    )
    assert [why in reason for reason in unbounded(plan)] == [True]
    with pytest.raises(StartRefusedError, match=why):
        check_start(plan, 0, 10**15)
    assert any("joins" in reason for reason in unbounded(PLAN))


def test_windows_begin_in_the_middle_at_their_reach_and_not_before(uri: str, tmp_path: Path) -> None:
    views = f"  v: {{entity: account, source: payments, value: amount, aggregate: {WINDOWS['aggregate']}, windows: {WINDOWS['windows']}}}"
    folder = variant(tmp_path, views=views)
    plan = load_plan(folder)
    assert longest_reach_ms(plan) == 300_000
    whole = pa.Table.from_batches(list(Backfill(plan, ArchivedJournal(Lake(uri, "engine"), plan)).vectors()))
    times = pc.cast(whole.column("_journal_time"), pa.int64()).to_numpy()
    start = int(np.quantile(times, 0.4))
    words = ["backfill", folder, "--lake", uri, "--start", start, "--out", tmp_path / "m.parquet", "--from"]
    refused = runner.invoke(app, [str(word) for word in [*words, start + 299_999]])
    assert refused.exit_code == 1 and str(start + 300_000) in refused.output
    command(*words, start + 300_000)
    part, wanted = pq.read_table(tmp_path / "m.parquet"), whole.filter(pa.array(times >= start + 300_000))
    assert part.num_rows == wanted.num_rows > 100
    for name in part.schema.names:
        if "__sum" in name:
            one, two = (np.array(table.column(name).to_pylist(), float) for table in (part, wanted))
            np.testing.assert_allclose(one, two, rtol=1e-9, err_msg=name)
        else:
            assert part.column(name).to_pylist() == wanted.column(name).to_pylist(), name


def test_skew_finds_none_in_what_was_served(uri: str, served: pa.Table) -> None:
    report = json.loads(command("skew", ENGINE, "--lake", uri, "--sample", 100, "--json"))
    assert report["agrees"] and report["sampled"] == 100 and report["unfounded"] == 0
    assert {f["feature"] for f in report["features"]} == {feature.name for feature in PLAN.features}
    assert all(f["compared"] == 100 and f["mismatches"] == 0 for f in report["features"])
    assert report == json.loads(command("skew", ENGINE, "--lake", uri, "--sample", 100, "--json")), "the same sample"
    whole = json.loads(command("skew", ENGINE, "--lake", uri, "--json"))
    by_name = {f["feature"]: f for f in whole["features"]}
    assert whole["sampled"] == served.num_rows
    since = served.column("exact__time_since_last").drop_null().to_numpy()
    assert by_name["exact__count_1m"]["age_median_s"] == pytest.approx(float(np.median(since)))
    lacking = served.column("exact__std_1m").null_count / served.num_rows
    assert by_name["exact__std_1m"]["missing_served_ratio"] == pytest.approx(lacking) == by_name["exact__std_1m"]["missing_recomputed_ratio"] > 0
    assert "exact__count_1m" in command("skew", ENGINE, "--lake", uri, "--sample", 10)


def test_skew_says_which_feature_was_served_otherwise(uri: str, served: pa.Table, tmp_path: Path) -> None:
    place = tmp_path / "lake"
    shutil.copytree(uri, place)
    lake = Lake(str(place), "engine")
    row, low = 17, served.column("exact__sum_10m")[17].as_py()
    wrong = pl.Series(served.column("exact__sum_10m")).to_list()
    wrong[row] = float(np.nextafter(low, np.inf))
    at = served.schema.get_field_index("exact__sum_10m")
    write_deltalake(lake.uri(VECTORS), served.set_column(at, "exact__sum_10m", pa.array(wrong, pa.float64())), mode="overwrite")
    done = runner.invoke(app, ["skew", str(ENGINE), "--lake", str(place), "--json"])
    assert done.exit_code == 1
    printed = json.loads(done.output)
    differing = [feature for feature in printed["features"] if feature["mismatches"]]
    assert [feature["feature"] for feature in differing] == ["exact__sum_10m"] and not printed["agrees"]
    assert differing[0]["mismatches"] == 1 and differing[0]["largest_difference"] == wrong[row] - low
    assert differing[0]["first_mismatch"] == [served.column(name)[row].as_py() for name, _ in PLACE]


def test_a_command_that_would_keep_nothing_or_reads_a_wrong_time_is_refused(uri: str) -> None:
    assert runner.invoke(app, ["backfill", str(ENGINE), "--lake", uri]).exit_code == 2
    assert runner.invoke(app, ["backfill", str(ENGINE), "--lake", uri, "--out", "x.parquet", "--from", "yesterday"]).exit_code == 2
    turned = runner.invoke(app, ["backfill", str(ENGINE), "--lake", uri, "--out", "x.parquet", "--from", "2024-01-01", "--to", "2023-01-01"])
    assert turned.exit_code == 1 and "--from before --to" in turned.output


def test_the_commands_of_the_guide_work(uri: str, served: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    times = pc.cast(pc.cast(served.column("_journal_time"), pa.timestamp("ms", "UTC")), pa.int64()).to_numpy()
    march, april = (str(int(np.quantile(times, q))) for q in (0.4, 0.8))
    here = {"examples/flights": str(ENGINE), "lake": uri, "2013-03-01": march, "2013-04-01": april}
    here["US2148-LGA-201311051800"] = served.column("_request_id")[-1].as_py()
    guide = (Path(__file__).parents[4] / "docs" / "guide" / "offline.md").read_text()
    lines = [line.split()[1:] for line in guide.splitlines() if line.startswith("tidemill ")]
    ran = [command(*(here.get(word, word) for word in line)) for line in lines if line[0] not in ("training-set", "explain", "diagnose")]
    assert len(ran) == 9 and {line[0] for line in lines} == {"backfill", "training-set", "switches", "skew", "trace", "explain", "diagnose"}


@pytest.mark.parametrize("out", ["x.parquet", "table"])
def test_a_fold_that_fails_on_its_way_leaves_no_output(uri: str, tmp_path: Path, out: str) -> None:
    place = tmp_path / "lake"
    shutil.copytree(uri, place)
    table = Lake(str(place), "engine").uri("journal_payments")
    twice = DeltaTable(table).to_pyarrow_table().filter(pc.field("_journal_partition") == 1).slice(100, 1)
    write_deltalake(table, twice, mode="append")
    done = runner.invoke(app, ["backfill", str(ENGINE), "--lake", str(place), "--out", str(tmp_path / out)])
    assert done.exit_code == 1 and "expected every journal record once" in done.output, done.exception
    assert not list(tmp_path.glob("x.parquet*")) and not DeltaTable.is_deltatable(str(tmp_path / out))
