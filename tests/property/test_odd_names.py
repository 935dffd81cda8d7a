"""What columns, streams, entities, views and models are called changes nothing but their names: an application with odd names gives the same vectors,
predictions and outcomes as one with ordinary names."""

import json
import re
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tidemill.shared.application.errors import ApplicationError
from tidemill.testing import ApplicationRun

COLUMNS = ("id", "at", "amount", "country", "vip", "count", "place", "city", "floor", "back_id", "order_id", "bad", "back_at", "temp", "seen")
DERIVED = ("twice", "pair")
NAMES = ("orders", "returns", "weather", "buyer", "spend", "rates", "sent_back")
ORDINARY = {name: name for name in (*COLUMNS, *DERIVED, *NAMES)}
ODD_COLUMNS = (
    "Amount amount AMOUNT order Select GROUP by null Null true False count sum mean first last label score value values x1 a__b"
    " trailing_ d__ i e E1 date timestamp Interval key is not case CASE end from nan inf user index lit len predicted model time type name id at"
    " debezium Debezium op source after before schema payload stream all_ tag Ask request_id event_id journal_time partition offset None self class"
    " extract row over as in on l O0 naN weight propensity control revision variant slices o_rders orders returns weather rates spend"
).split()
ODD_DERIVED = "order select group null true false not case end from in is x_ y__z t2 date label score count_ value key user e i nan".split()
ODD_NAMES = "order select null true false yes no on y n count all x__y z_ a1 default model stream label none nan case end event request key".split()
_AVRO_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
START = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def odd_names(draw: st.DrawFn) -> dict[str, str]:
    """Names for everything, each once among those that share a place."""
    columns = draw(st.permutations(ODD_COLUMNS))[: len(COLUMNS)]
    derived = [name for name in draw(st.permutations(ODD_DERIVED)) if name not in columns][: len(DERIVED)]
    names = draw(st.permutations(ODD_NAMES))[: len(NAMES)]
    return dict(zip((*COLUMNS, *DERIVED, *NAMES), (*columns, *derived, *names), strict=True))


def quoted(text: str) -> str:
    return '"' + text + '"'


def write(folder: Path, called: Mapping[str, str]) -> Path:
    """Write the application with these names; as JSON, which is YAML, so that `yes` is a name."""
    n = called
    stamp = {"type": "long", "logicalType": "timestamp-millis"}

    def schema(name: str, fields: list[tuple[str, Any]]) -> None:
        record = {"type": "record", "name": "R", "fields": [{"name": n[field], "type": kind} for field, kind in fields]}
        (folder / f"{name}.avsc").write_text(json.dumps(record))

    place = {"type": "record", "name": "P", "fields": [{"name": n["city"], "type": "string"}, {"name": n["floor"], "type": ["null", "int"]}]}
    own = [("id", "string"), ("at", stamp), ("amount", ["null", "double"]), ("country", "string"), ("vip", "boolean"), ("count", "long")]
    schema("order", [*own, ("place", place)])
    schema("return", [("back_id", "string"), ("order_id", "string"), ("bad", "boolean"), ("back_at", stamp)])
    schema("weather", [("country", "string"), ("seen", stamp), ("temp", "double")])
    amount, count, city = quoted(n["amount"]), quoted(n["count"]), f"{n['place']}.{n['city']}"
    streams = {
        n["orders"]: {
            "topic": "t-orders", "schema": "order.avsc", "event_id": n["id"], "event_time": n["at"],
            "derive": {n["twice"]: f"{amount} * 2 + {count}", n["pair"]: f"{quoted(n['country'])} || '-' || {quoted(city)}"},
            "expect": [{"name": "sold", "check": f"{count} < 9 OR {quoted(n['vip'])}", "otherwise": "reject"}],
        },
        n["returns"]: {"topic": "t-returns", "schema": "return.avsc", "event_id": n["back_id"], "event_time": n["back_at"], "key": n["order_id"]},
        n["weather"]: {
            "topic": "t-weather", "schema": "weather.avsc", "kind": "reference", "key": n["country"], "event_time": n["seen"], "max_age": "9d",
        },
    }  # fmt: skip
    view = {
        "entity": n["buyer"],
        "source": n["orders"],
        "value": f"{amount} + {quoted(n['twice'])}",
        "aggregate": ["count", "mean", {"last": amount}],
    }
    rates = {"label": n["sent_back"], "by": ["all", n["country"], n["pair"], n["vip"], city], "half_lives": ["6h"]}
    asked = [n[name] for name in ("amount", "country", "vip", "count", "twice", "pair")]
    model = {
        "ask": n["orders"], "features": [*asked, f"{n['place']}.*", f"{n['weather']}.*", f"{n['spend']}.*", f"{n['rates']}.*"],
        "label": {"stream": n["returns"], "join": n["order_id"], "value": quoted(n["bad"]), "max_delay": "1d"}, "fallback": {"default": 0.25},
        "slices": [n["country"], city],
    }  # fmt: skip
    app = {
        "app": "shop", "owner": "o@example.org", "partition_by": n["id"], "streams": streams,
        "entities": {n["buyer"]: {"from": {n["orders"]: n["country"]}}},
        "views": {n["spend"]: {**view, "windows": ["1h", "1d"]}, n["rates"]: rates}, "models": {n["sent_back"]: model},
    }  # fmt: skip
    (folder / "app.yaml").write_text(json.dumps(app))
    return folder


def results(called: Mapping[str, str]) -> tuple[list[Any], ...]:
    """Run the same events under these names; what is written, by position, without names."""
    n, generator = called, np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder, ApplicationRun(write(Path(folder), called), START.isoformat()) as run:
        for i in range(40):
            at = START + timedelta(minutes=20 * i)
            run.clock.set(at.isoformat())
            town, country = ("oslo", "rome", "bern")[i % 3], ("no", "it")[int(generator.integers(2))]
            if i % 5 == 0:
                run.publish(n["weather"], {n["country"]: country, n["seen"]: at, n["temp"]: float(generator.normal())})
            place = {n["city"]: town, n["floor"]: None if i % 4 == 0 else i % 3}
            run.publish(
                n["orders"],
                {
                    n["id"]: f"o{i}", n["at"]: at, n["amount"]: None if i % 7 == 0 else float(generator.gamma(2.0)), n["country"]: country,
                    n["vip"]: bool(i % 2), n["count"]: int(generator.integers(10)), n["place"]: place,
                },
            )  # fmt: skip
            if i > 3 and i % 2:
                back = {n["back_id"]: f"b{i}", n["order_id"]: f"o{i - 3}", n["bad"]: bool(generator.random() < 0.4), n["back_at"]: at}
                run.publish(n["returns"], back, key=f"o{i - 3}")
        run.clock.advance("2d")
        made = run.run()
    assert all(_AVRO_NAME.fullmatch(name) for name in run.plan.vector_arrow.names), "a registry takes the vectors' schema"
    vectors = [[row.pop("_ask") == n["orders"], *row.values()] for row in made.vectors]
    # NaN is not equal to itself, but is written alike.
    predictions, outcomes = ([repr({**row, "model": row["model"] == n["sent_back"]}) for row in rows] for rows in (made.predictions, made.outcomes))
    return vectors, predictions, outcomes, [(one["reason"], one["source_topic"], one["source_offset"]) for one in made.rejected]


def test_the_ordinary_application_has_something_to_compare() -> None:
    vectors, predictions, outcomes, rejected = results(ORDINARY)
    assert len(vectors) == len(predictions) > 30 and rejected
    assert all(any(f"'status': '{status}'" in one for one in outcomes) for status in ("labelled", "timeout"))
    filled = np.mean([[value is not None for value in row] for row in vectors], axis=0)
    assert (filled > 0).all() and len(filled) == 26


@settings(max_examples=examples(20), deadline=None)
@given(called=odd_names())
def test_odd_names_give_the_same_vectors_predictions_and_outcomes(called: dict[str, str]) -> None:
    assert results(called) == results(ORDINARY)


@pytest.mark.parametrize(
    ("called", "twice"),
    [({"amount": "place__city"}, "place__city"), ({"amount": "weather__temp"}, "weather__temp"), ({"count": "spend__count_1h"}, "spend__count_1h")],
)
def test_two_columns_that_would_be_one_feature_are_refused(tmp_path: Path, called: dict[str, str], twice: str) -> None:
    """The second one took the first one's place in silence."""
    with pytest.raises(ApplicationError, match=f"features? .*{twice}"):
        ApplicationRun(write(tmp_path, {**ORDINARY, **called}))
