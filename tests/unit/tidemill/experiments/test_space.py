"""Which configurations an experiment has."""

import itertools
from pathlib import Path

import pytest

from tests.unit.services.drift.stream import shop
from tests.unit.services.retraining.test_job import MODEL, SETTINGS
from tidemill.experiments.space import draw, read_grid
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.plan import ModelPlan


@pytest.fixture
def model(tmp_path: Path) -> ModelPlan:
    settings = SETTINGS.replace("families: [logistic_regression]", "families: [logistic_regression, lightgbm]").replace("[0]", "[0, 20]")
    return shop(tmp_path, settings).models[MODEL]


def test_a_grid_is_every_combination(tmp_path: Path, model: ModelPlan) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(
        "families:\n  lightgbm: {trees: [60, 80], learning_rate: 1}\n  logistic_regression:\n"
        "windows_days: [0, 30]\nfeature_sets:\n  all: ['*']\n  some: ['*', '-amount']\n"
    )
    grid = read_grid(file, model)
    trees = [(one.window_days, one.feature_set, one.parameters["trees"]) for one in grid if one.family == "lightgbm"]
    assert sorted(trees) == sorted(itertools.product((0, 30), ("all", "some"), (60, 80)))
    assert all(one.parameters["learning_rate"] == 1.0 and one.parameters["leaves"] == 24 for one in grid if one.family == "lightgbm")
    assert len(grid) == 12 and len({one.identity for one in grid}) == 12
    assert {one.columns for one in grid if one.feature_set == "some"} == {tuple(name for name in model.features if name != "amount")}


def test_the_same_configuration_under_two_names_is_one(tmp_path: Path, model: ModelPlan) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("families: {logistic_regression: {strength: [0.1, 0.1]}}\nfeature_sets: {a: ['*'], b: ['*']}\nwindows_days: 0\n")
    assert len(read_grid(file, model)) == 1


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("families: {}\n", 1, "families by name"),
        ("windows_days: [0]\n", 1, "families by name"),
        ("families:\n  lightgbn:\n", 2, "'lightgbn'"),
        ("families:\n  ridge_regression:\n", 2, "kind binary"),
        ("families:\n  lightgbm:\n    tree: 60\n", 3, "did you mean trees"),
        ("families:\n  lightgbm:\n    trees: [60, many]\n", 3, "int values, found 'many'"),
        ("families:\n  lightgbm:\n    trees: 60.5\n", 3, "int values, found 60.5"),
        ("families: {lightgbm: }\nwindows_days: [-1]\n", 2, "0 for all, found -1"),
        ("families: {lightgbm: }\nfeature_sets:\n  a: ['*']\n  b: [wether.*]\n", 4, "'wether.*'"),
        ("families: {lightgbm: }\nfeature_sets:\n  none: ['*', '-*']\n", 3, "at least one feature"),
        ("families: {lightgbm: }\nwindow_days: [0]\n", 2, "'window_days'"),
        ("- 1\n", 1, "a mapping"),
        (f"families: {{lightgbm: {{trees: {list(range(1, 6000))}}}}}\n", 1, "5000 configurations or fewer"),
    ],
)
def test_a_mistake_in_a_grid_has_its_line(tmp_path: Path, model: ModelPlan, text: str, line: int, words: str) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    with pytest.raises(ApplicationError) as caught:
        read_grid(file, model)
    assert caught.value.line == line and words in str(caught.value)


def test_a_draw_follows_from_its_seed_and_more_trials_begin_with_the_fewer(model: ModelPlan) -> None:
    first = draw(model, 30, 7)
    assert first == draw(model, 30, 7) and first[:10] == draw(model, 10, 7) and first != draw(model, 30, 8)
    assert len({one.identity for one in first}) == 30
    assert {one.family for one in first} == {"logistic_regression", "lightgbm"} and {one.window_days for one in first} == {0, 20}
    assert [one.family for one in first[:2]] == ["logistic_regression", "lightgbm"]
    for one in first:
        if one.family == "lightgbm":
            assert 60 <= one.parameters["trees"] <= 120 and one.parameters["trees"] % 20 == 0 and 0.05 <= one.parameters["learning_rate"] <= 0.2
