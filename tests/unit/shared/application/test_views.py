"""What the view language means, and what it refuses, with file and line."""

import shutil
from pathlib import Path

import pytest

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.planning import load_plan

ENGINE = Path(__file__).parents[3] / "applications" / "engine"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ENGINE, tmp_path / "engine"))


def test_windows_have_one_mechanism() -> None:
    steps = next(view for view in load_plan(ENGINE).views if view.name == "steps")
    windows = {a.window.text: (a.window.kind, a.window.length_ms, a.window.step_ms) for a in steps.aggregates if a.window is not None}
    assert windows == {
        "2m": ("sliding", 120_000, 10_000),
        "10m": ("sliding", 600_000, 60_000),
        "tumbling_5m": ("sliding", 300_000, 300_000),
        "hopping_6m_2m": ("sliding", 360_000, 120_000),
        "session_1m": ("session", 60_000, 0),
    }


def test_label_rates_are_views_that_join_the_request() -> None:
    views = [view for view in load_plan(ENGINE).views if view.name.startswith("fraud")]
    assert [(view.name, view.entity, view.source) for view in views] == [
        ("fraud__account", "payments.account", "verdicts"),
        ("fraud__merchant", "payments.merchant", "verdicts"),
        ("fraud__all", None, "verdicts"),
    ]
    assert [a.feature for a in views[2].aggregates] == ["fraud__all_3events", "fraud__all_5m"]
    assert views[0].join is not None and views[0].join.within_ms == 480_000 and views[2].join is None


@pytest.mark.parametrize(
    ("old", "new", "expected", "came"),
    [
        ("aggregate: [count, max, last", "aggregate: [cuont, max, last", "one of the aggregates count", "cuont"),
        ("{lag: [2, 3]}", "{lag: 0}", "a whole number from 1 to 64", "0"),
        ("{lag: [2, 3]}", "lag", "how many values back", "lag"),
        ("{quantile: 0.5}", "{quantile: 50}", "quantiles between 0 and 1", "50"),
        ("{half_life: [3m, 4 events]}", "{half_life: [3m, 4 things]}", "a duration or a number of events", "4 things"),
        ("{ratio: [count_1m, count_10m]}", "{ratio: [count_1m, count_11m]}", "features of views to divide", "exact__count_11m"),
        ("{tumbling: 5m}", "{tumbling: 5}", "a duration", "5"),
        ("{hopping: 6m, every: 2m}", "{hopping: 6m}", "hopping and every together", "hopping"),
        ("{hopping: 6m, every: 2m}", "{hopping: 6m, every: 4m}", "a step that divides the window", "every"),
        ("resolution: 1m}", "resolution: 7m}", "a step that divides the window", "7m"),
        ("    resolution: 10s", "    resolution: 7s", "a multiple of the resolution 7s", "2m"),
        ("windows: [5m, all]", "windows: []", "windows for count", "none"),
        ("windows: [5m, all]", "windows: [0s, all]", "longer than nothing", "0s"),
        ("where: amount > 5", "where: amount >", "a SQL expression", "amount >"),
        ("where: amount > 5", "where: amount + 5", "an expression of type bool", "double"),
        ("entity: merchant, source", "entity: shop, source", "one of the entities", "shop"),
        ("merchant: {from: {payments: merchant}", "merchant: {from: {payments: shop}", "a text or whole-number column", "shop"),
        ("{label: fraud, by: [account", "{label: frod, by: [account", "one of the models", "frod"),
        ("by: [account, merchant, all]", "by: [account, amount, all]", "a text or whole-number column of payments, or all", "amount"),
        ("event_id: payment,", "event_id: payment, derive: {all: account},", "all to mean one thing: payments has a column of that name", "all"),
        ("half_lives: [3 labels, 5m]", "half_lives: [3 labels, never]", "a half-life such as", "never"),
        ("  everything: {source: payments,", "  everything: {source: verdicts, entity: merchant,", "or a join in the view", "none"),
        (
            "  known_then: {entity: account,",
            "  known_then: {entity: account, join: {stream: payments, on: shop, within: 1h},",
            "another event stream",
            "payments",
        ),
        ("time: journal", "time: wall", "'event' or 'journal'", "wall"),
        ("partition_by: account\n", "partition_by: account\npartitions: 4\n", "the partition key account", "merchant"),
    ],
)
def test_mistakes_name_file_line_expected_and_found(folder: Path, old: str, new: str, expected: str, came: str) -> None:
    file = folder / "app.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ApplicationError) as caught:
        load_plan(folder)
    assert caught.value.file == file and caught.value.line > 1
    assert expected in caught.value.expected, caught.value.expected
    assert came in caught.value.came or came in caught.value.expected, caught.value.came


def test_a_feature_stands_once(folder: Path) -> None:
    file = folder / "app.yaml"
    file.write_text(file.read_text().replace("aggregate: [count, sum], windows: [1m]}", "aggregate: [count, count], windows: [1m]}"))
    with pytest.raises(ApplicationError, match="known_then__count_1m twice"):
        load_plan(folder)
