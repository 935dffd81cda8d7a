"""A stream that has ended, as whoever feeds it has said, has not failed: nothing is held against it until it goes on."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.planted_faults import DAY as PLANTED_DAY
from tests.planted_faults import FAULT, PER_DAY, Table, incidents
from tests.unit.services.drift.stream import DAY, START, Shop, season, shop
from tests.unit.services.drift.test_task import Pipeline, decoded
from tidemill.services.drift.domain.stream_ends import EndNews, StreamEnds
from tidemill.services.drift.domain.stream_quality import OF_LABELS, OF_REQUESTS

CUT, GAP = 10, 6
TIMES = {"journal_time", "_journal_time", "event_time", "_event_time", "label_event_time", "request_journal_time"}


def with_a_gap(told: str) -> Shop:
    """Orders of twenty days; after ten nothing comes for six days, which is `told` of a stream or not ("")."""
    rows = season(days=20, promoted=4, drifting=99)
    cut = START + CUT * DAY
    for part in (rows.vectors, rows.predictions, rows.outcomes):
        for row in part:
            asked = row.get("request_journal_time", row.get("journal_time", row.get("_journal_time")))
            row |= {name: row[name] + GAP * DAY for name in TIMES & row.keys() if asked is not None and asked >= cut}
    rows.end_ms += GAP * DAY
    last = {part[0]["_ask"] if "_ask" in part[0] else "returns": before(part, cut) for part in (rows.vectors, rows.outcomes)}
    first = next(row["_journal_time"] for row in rows.vectors if row["_journal_time"] >= cut + GAP * DAY)
    if told:
        news = [(last["orders"], "orders", True), (last["returns"], "returns", True), (first, "orders", False), (first, "returns", False)]
        where = {"journal_partition": 0, "journal_offset": 0}
        rows.stream_ends = [{"stream": name, "journal_time": at, "ended": ended, **where} for at, name, ended in news if told in ("all", name)]
    return rows


def before(part: list[dict[str, Any]], cut: int) -> int:
    """Return when the last row came whose request came before an instant."""
    name = "_journal_time" if "_journal_time" in part[0] else "journal_time"
    return max(int(row[name]) for row in part if row.get("request_journal_time", row[name]) < cut)


def of_streams(pipeline: Pipeline) -> list[tuple[str, int]]:
    """Return what is said of streams, and in which days."""
    events, _ = decoded(pipeline, pipeline.run(0))
    return [(one["kind"], (one["journal_time"] - START) // DAY) for one in events if one["kind"] in OF_REQUESTS | OF_LABELS]


def test_nothing_is_said_of_a_stream_that_has_ended_until_it_goes_on(tmp_path: Path) -> None:
    plan, over = shop(tmp_path), 20 + GAP
    live = of_streams(Pipeline(plan, with_a_gap("")))
    assert {kind for kind, day in live if CUT < day <= CUT + GAP} == {"volume", "labels"}, "without a word it has failed"
    told = of_streams(Pipeline(plan, with_a_gap("all")))
    assert all(day > over for _, day in told), told
    assert {("freshness", over + 1), ("volume", over + 2)} <= set(told), "it went on, and then fails without a word"
    labels = of_streams(Pipeline(plan, with_a_gap("returns")))
    assert {kind for kind, day in labels if day <= over} == {"volume"}, "who ends the labels has not ended the requests"


def test_any_portions_and_restarts_say_the_same(tmp_path: Path) -> None:
    pipeline = Pipeline(shop(tmp_path), with_a_gap("all"))
    said = pipeline.run(0)
    assert pipeline.run(4) == said and pipeline.run(5, restarts=(9, 15, 20), snapshot_every=3) == said


def test_a_restart_while_a_stream_has_ended_forgets_it_not(tmp_path: Path) -> None:
    """Forgotten, what had ended by the last snapshot counts as failed from then on."""
    pipeline = Pipeline(shop(tmp_path), with_a_gap("all"))
    assert pipeline.run(0, restarts=tuple(range(8, 16))) == pipeline.run(0)


def weather_ends(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """The weather has ended with its data set; the orders go on for days."""
    rows.columns["temp"][after] = np.nan
    rows.ended[FAULT - 1] = EndNews((PER_DAY - 1) * 2, "weather", 0, FAULT * PLANTED_DAY - 1, True)


def weather_fails(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """The same, and nobody has said anything."""
    rows.columns["temp"][after] = np.nan


def test_what_is_made_of_a_reference_stream_that_has_ended_is_a_warning_with_its_true_cause() -> None:
    told = {}
    for fault in (weather_ends, weather_fails):
        newest = {one.fields["incident_id"]: one.fields for one in incidents(fault, 0)}
        told[fault] = [(one["severity"], one["root"], one["likely_cause"]) for one in newest.values() if "temp" in one["subjects"]]
    ((severity, root, cause),) = told[weather_ends]
    assert (severity, root) == ("warning", "column:weather.temp")
    assert cause == "Stream weather has ended, as whoever feeds it has said: what is made of it comes empty or stands still."
    ((severity, root, cause),) = told[weather_fails]
    assert (severity, root) == ("alarm", "column:weather.temp") and "its producer, or the join that fills it, has changed" in cause


def test_a_stream_has_ended_when_all_its_partitions_have_and_a_window_knows_that_it_had() -> None:
    ends = StreamEnds({"orders": 2})
    ends.absorb([EndNews(0, "orders", 1, 10, True), EndNews(1, "weather", 0, 11, True)])
    one = ends.close()
    assert "orders" not in one and one.before("orders") == {"weather"}
    ends.absorb([EndNews(0, "orders", 0, 30, True), EndNews(1, "weather", 0, 31, False), EndNews(2, "weather", 0, 40, True)])
    two = ends.close()
    assert "orders" in two and two.before("orders") == frozenset(), "the weather ended after the orders"
    ends.absorb([EndNews(0, "orders", 0, 50, False)])
    again = StreamEnds({"orders": 2})
    again.load(ends.snapshot())
    assert "orders" in ends.close() and "orders" not in ends.close(), "of the window in which it goes on a part is missing"
    assert "orders" in again.close() and "orders" not in again.close() and again.snapshot() == ends.snapshot()
