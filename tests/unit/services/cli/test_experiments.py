"""`tidemill experiments run` on a real archive, with processes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.services.retraining.test_job import MODEL, World
from tidemill.experiments.figures_file import TIMES
from tidemill.services.cli.__main__ import app

GRID = """families:
  logistic_regression: {strength: [0.01, 0.1]}
  trials_own:dies:
  trials_own:raises:
"""
OWN = """
import os, signal
from sklearn.linear_model import LogisticRegression
class Dies(LogisticRegression):
    def fit(self, rows, labels, sample_weight=None):
        os.kill(os.getpid(), signal.SIGKILL)
class Raises(LogisticRegression):
    def fit(self, rows, labels, sample_weight=None):
        raise RuntimeError("<b>no</b> & never")
def dies(): return Dies()
def raises(): return Raises()
"""
runner = CliRunner()
pytestmark = pytest.mark.usefixtures("forked_interpreters")


def run(world: World, *options: str) -> tuple[int, str]:
    place = ["--lake", str(world.folder / "lake"), "--out", str(world.folder / "out"), "--jobs", "2", "--folds", "2"]
    result = runner.invoke(app, ["experiments", "run", str(world.folder), *place, *options])
    return result.exit_code, " ".join(result.output.split())


def written(world: World, folder: str = "out") -> dict[str, Any]:
    table: dict[str, Any] = json.loads((world.folder / folder / "experiments.json").read_text())
    return table


def trained(table: dict[str, Any]) -> dict[str, Any]:
    """Everything that is said of the trials that were trained, but how long it took and how they compare, by identity."""
    left_out = {*TIMES, "number", "behind_best", "surely_worse"}
    rows = [one for one in table["trials"] if one["status"] == "done"]
    return {one["identity"]: {name: value for name, value in one.items() if name not in left_out} for one in rows}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.archive(40)
    (tmp_path / "trials_own.py").write_text(OWN)
    (tmp_path / "grid.yaml").write_text(GRID)
    return made


@pytest.mark.lasts(25)
def test_trials_that_fail_are_rows_and_ended_ones_are_kept(world: World) -> None:
    grid = ("--grid", str(world.folder / "grid.yaml"))
    code, said = run(world, *grid)
    assert code == 0, said
    first = written(world)
    status = {one["family"]: (one["status"], one["reason"]) for one in first["trials"]}
    assert status["logistic_regression"] == ("done", "")
    assert status["trials_own:dies"][0] == "died" and "signal 9" in status["trials_own:dies"][1]
    assert (status["trials_own:raises"][0] == "failed" and "RuntimeError" in status["trials_own:raises"][1]) or "no</b>" in status[
        "trials_own:raises"
    ][1]
    page = (world.folder / "out" / "experiments.html").read_text()
    assert "<b>no</b>" not in page and "&lt;b&gt;no&lt;/b&gt;" in page
    assert not re.search(r"(src|href)=[\"']?http|@import|url\(", page), "the page needs no network"
    # Again: what has ended is kept, what died is tried again; more configurations join.
    (world.folder / "grid.yaml").write_text(GRID.replace("[0.01, 0.1]", "[0.01, 0.1, 1]"))
    results = next((world.folder / "out").glob("*/results"))
    before = {path.name: path.stat().st_mtime_ns for path in results.glob("*.json")}
    code, said = run(world, *grid, "--jobs", "1")
    assert code == 0 and "3 of 5 trials were ended before and are kept" in said
    assert {name: (results / name).stat().st_mtime_ns for name in before} == before
    again = trained(written(world))
    assert sorted(one["parameters"]["strength"] for one in again.values()) == [0.01, 0.1, 1.0]
    assert trained(first).items() <= again.items()
    # Other rows: nothing of it counts, and that is said.
    world.archive(50)
    code, said = run(world, "--trials", "2", "--jobs", "1")
    assert code == 0 and "not counted: 4 trials" in said and "rows with SHA-256" in said and "kept" not in said.replace("not counted", "")
    # The same seed elsewhere, and two at once: the same table.
    drawn = trained(written(world))
    code, said = run(world, "--trials", "2", "--out", str(world.folder / "again"))
    assert code == 0 and len(drawn) == 2 and drawn == trained(written(world, "again"))


def test_bad_input_is_said_in_one_line(world: World) -> None:
    assert run(world)[0] == 2
    code, said = run(world, "--trials", "2", "--grid", "g")
    assert code == 2 and "expected either --grid FILE" in said
    code, said = run(world, "nobody", "--trials", "2")
    assert code == 2 and MODEL in said
    code, said = run(world, "--grid", str(world.folder / "nowhere.yaml"))
    assert code == 2 and "a grid file, found none" in said
    code, said = run(world, "--trials", "2", "--to", "2023-12-10")
    assert code == 1 and "expected" in said
    code, said = run(world, "--trials", "2", "--data", "flights")
    assert code == 2 and "expected either --data" in said
