"""The version of the views changes with whatever changes a vector, column by column, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.view_version import feature_versions, view_version

FLIGHTS = Path(__file__).parents[4] / "examples" / "flights"


def changed(folder: Path, old: str, new: str) -> Plan:
    target = Path(shutil.copytree(FLIGHTS, folder / "changed"))
    text = (target / "app.yaml").read_text()
    assert text.count(old) >= 1, old
    (target / "app.yaml").write_text(text.replace(old, new, 1))
    return load_plan(target)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("app: flights", "topology: separate\napp: flights"),
        ("cool_down: 14d", "cool_down: 15d"),
        ("trials: 6", "trials: 7"),
        ("distance < 6000", "distance < 7000"),
        ("allowed_lateness: 2h", "allowed_lateness: 3h"),
        ("on_timeout: unlabelled", "on_timeout: negative"),
    ],
)
def test_what_changes_no_vector_of_a_journal_changes_no_version(tmp_path: Path, old: str, new: str) -> None:
    before, after = load_plan(FLIGHTS), changed(tmp_path, old, new)
    assert view_version(before) == view_version(after) and feature_versions(before) == feature_versions(after)


@pytest.mark.parametrize(
    ("old", "new", "columns"),
    [
        ("departures, aggregate: [count], windows: [1h", "departures, where: distance > 9, aggregate: [count], windows: [1h", "origin_traffic"),
        ("local_minute / 60", "local_minute / 61", "hour"),
        ("arr_delay > 15 THEN", "arr_delay > 16 THEN", ("origin_late", "dest_late", "carrier_late", "route_late")),
        ("origin || '-' || dest", "dest || '-' || origin", ("route_delay", "route_late")),
        ("max_age: 4h", "max_age: 5h", "weather__"),
        ("tailnum}, ttl: 60d", "tailnum}, ttl: 61d", "aircraft_"),
        ("value: dep_delay", "value: arr_delay", "origin_delay"),
    ],
)
def test_a_definition_changes_the_version_of_its_columns_and_of_no_other(tmp_path: Path, old: str, new: str, columns: str | tuple[str, ...]) -> None:
    before, after = load_plan(FLIGHTS), changed(tmp_path, old, new)
    assert view_version(before) != view_version(after)
    old_ones, new_ones = feature_versions(before), feature_versions(after)
    differing = {name for name in old_ones if old_ones[name] != new_ones[name]}
    assert differing and differing == {name for name in old_ones if name.startswith(columns)}


def test_a_column_more_leaves_the_others_alone(tmp_path: Path) -> None:
    before, after = load_plan(FLIGHTS), changed(tmp_path, "aggregate: [count], windows: [3h]", "aggregate: [count], windows: [3h, 5h]")
    assert view_version(before) != view_version(after)
    assert feature_versions(before).items() < feature_versions(after).items()


def test_every_column_has_a_version_of_its_own_that_is_the_same_at_every_load() -> None:
    one, two = (feature_versions(load_plan(FLIGHTS)) for _ in range(2))
    assert one == two and list(one) == [feature.name for feature in load_plan(FLIGHTS).features]
    assert len(set(one.values())) == len(one)
