"""Findings that share a cause are one incident, independent ones are two, and it is over after three quiet windows."""

import json

import pytest

from tidemill.services.drift.domain.findings import Coordinates, Finding, Kind, Severity
from tidemill.services.drift.domain.incidents import IncidentFold
from tidemill.shared.application.lineage import Lineage
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry

DAY = 86_400_000


def raw(stream: str, column: str) -> Lineage:
    return Lineage(frozenset({f"{stream}.{column}"}), "", frozenset({stream}))


def view(name: str, *columns: str) -> Lineage:
    return Lineage(frozenset(columns), name, frozenset({columns[0].split(".")[0]}))


LINEAGE = {
    "amount": raw("orders", "amount"),
    "weight": raw("orders", "weight"),
    "country": raw("orders", "country"),
    "speed": raw("orders", "speed"),
    "temp": raw("weather", "temp"),
    "late_mean": view("late", "returns.bad", "orders.country"),
    "late_max": view("late", "returns.bad", "orders.country"),
    "sum_7d": view("spent", "orders.amount", "orders.customer"),
}


def finding(kind: Kind, subject: str, day: int = 0, severity: Severity = "warning", level: float = 2.0) -> Finding:
    return Finding("m", Coordinates(day * DAY, 0, day), kind, subject, "d", severity, level, 1.0, f"{subject} is wrong")


def fold() -> IncidentFold:
    return IncidentFold("m", LINEAGE)


def test_one_broken_column_is_one_incident_whatever_is_made_of_it() -> None:
    records = fold().absorb([finding("missing", "amount"), finding("feature", "amount"), finding("missing", "sum_7d")])
    assert [(one.fields["root"], one.fields["status"], one.fields["findings"]) for one in records] == [("column:orders.amount", "open", 3)]
    assert "empty" in records[0].fields["likely_cause"] and records[0].fields["subjects"] == ["amount", "sum_7d"]


def test_two_columns_that_break_on_one_day_are_two() -> None:
    records = fold().absorb([finding("missing", "amount"), finding("units", "weight"), finding("missing", "sum_7d")])
    assert {one.fields["root"]: one.fields["findings"] for one in records} == {"column:orders.amount": 2, "column:orders.weight": 1}
    assert len({one.fields["incident_id"] for one in records}) == 2


def test_a_shared_column_behind_many_views_is_the_root() -> None:
    records = fold().absorb([finding("missing", "late_mean"), finding("missing", "late_max"), finding("category", "country")])
    assert [(one.fields["root"], one.fields["findings"]) for one in records] == [("column:orders.country", 3)]


def test_distributions_that_shift_together_share_their_stream_and_no_other() -> None:
    records = fold().absorb([finding("feature", "amount"), finding("feature", "weight"), finding("feature", "temp")])
    assert {one.fields["root"]: one.fields["findings"] for one in records} == {"stream:orders": 2, "column:weather.temp": 1}


def test_a_stream_that_fails_takes_what_hangs_on_it() -> None:
    records = fold().absorb([finding("missing", "late_mean"), finding("labels", "returns")])
    assert [one.fields["root"] for one in records] == ["stream:returns"]
    whole = fold().absorb([finding("missing", name) for name in ("amount", "weight", "country", "speed")])
    assert [one.fields["root"] for one in whole] == ["stream:orders"], "most columns of a stream at once are its own fault"


def test_a_loss_joins_what_is_broken_or_stands_alone() -> None:
    one = fold()
    one.absorb([finding("missing", "amount")])
    later = one.absorb([finding("loss", "excess_loss", 2, "alarm")])
    assert [(u.fields["root"], u.fields["change"], u.fields["severity"], u.fields["opened_as"]) for u in later] == [
        ("column:orders.amount", "worse", "alarm", "warning")
    ]
    assert later[0].fields["action"] == "", "what was decided is control's to say"
    alone = fold().absorb([finding("loss", "excess_loss", 2, "alarm")])
    assert [u.fields["root"] for u in alone] == ["model:m"]


def test_the_same_column_days_later_is_the_same_incident_and_another_view_is_not() -> None:
    one = fold()
    one.absorb([finding("missing", "amount")])
    assert [u.fields["status"] for u in one.absorb([finding("range", "amount", 5)])] == ["ongoing"]
    assert [u.fields["status"] for u in one.absorb([finding("missing", "sum_7d", 9)])] == ["ongoing"], "its root is amount's column"
    assert [u.fields["root"] for u in one.absorb([finding("missing", "late_mean", 9)])] == ["column:orders.country"]


def test_it_is_over_after_three_quiet_windows_in_a_row() -> None:
    one = fold()
    one.absorb([finding("missing", "amount")])
    levels = [2.0, 0.4, 0.4, 0.6, 0.4, 0.4, 0.4]
    said = [one.close_window(Coordinates((day + 1) * DAY, 0, day), {("missing", "amount"): level}, 10) for day, level in enumerate(levels)]
    assert [len(some) for some in said] == [0] * 6 + [1]
    last = said[-1][0].fields
    assert (last["status"], last["number"], last["opened"]) == ("resolved", 2, 0) and not one.open


def test_windows_without_rows_say_nothing_of_a_column() -> None:
    one = fold()
    one.absorb([finding("missing", "amount")])
    for day in range(9):
        assert not one.close_window(Coordinates(day * DAY, 0, day), {}, 0)
    assert one.open


def test_what_is_for_information_opens_nothing() -> None:
    assert not fold().absorb([finding("bootstrap", "labels", severity="info")])


def test_the_id_follows_from_model_root_and_place() -> None:
    first, again, later = (fold().absorb([finding("missing", "amount", day)])[0].fields["incident_id"] for day in (0, 0, 1))
    assert first == again != later


@pytest.mark.parametrize("cut", range(4))
def test_a_restart_is_no_restart(cut: int) -> None:
    steps = [[finding("missing", "amount")], [finding("feature", "temp", 1)], [finding("range", "amount", 2), finding("units", "weight", 2)], []]

    def run(restart: int) -> list[object]:
        one, said = fold(), list[object]()
        for day, findings in enumerate(steps):
            if day == restart:
                state = json.loads(json.dumps(one.snapshot()))
                one = fold()
                one.load(state)
            said += [update.record() for update in one.absorb(findings)]
            said += [update.record() for update in one.close_window(Coordinates((day + 1) * DAY, 0, day), {}, 5)]
        return said

    assert run(cut) == run(-1)


def test_an_incident_of_thousands_of_features_fits_its_topic() -> None:
    names = [f"{'long_name_' * 9}{number:04}" for number in range(9_990)]
    lineage = {name: raw("orders", name) for name in names}
    (record,) = IncidentFold("m", lineage).absorb([finding("feature", name) for name in names])
    codec = message_codec(MemorySchemaRegistry(), "shop-incidents", "incident")
    assert len(codec.encode(record.record())) < 600_000
    told = record.fields["subjects"]
    assert told == names[: len(told)] and len(told) > 5_000 and record.fields["detail"].startswith("9990 subjects")
