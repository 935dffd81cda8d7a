"""An estimator of the application's own stands in its folder; one that cannot be served is refused by `check`, before anything runs."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidemill.services.cli.__main__ import app
from tidemill.services.retraining.domain.families.family import FamilyError
from tidemill.services.retraining.own_families import check_explained_families, check_own_families
from tidemill.services.retraining.processes.family_check import try_own_families, try_own_families_once
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.planning import load_plan

pytestmark = pytest.mark.usefixtures("forked_interpreters")
PAYMENTS = Path(__file__).parents[4] / "examples" / "payments"
MODULE = """
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def steps():
    return make_pipeline(StandardScaler(), LogisticRegression())

def boosting():
    return HistGradientBoostingClassifier()

def fails():
    raise RuntimeError("no licence")

def leaves():
    raise SystemExit(0)

def asks(rows):
    return LogisticRegression()

def averaged():
    return RandomForestClassifier(5, max_depth=3)
"""
WORSE = """
import os
import time

def ends():
    os._exit(3)

def hangs():
    time.sleep(600)
"""


def payments_with(tmp_path: Path, families: str, more: str = "") -> Path:
    """Return the payments' folder, with families of its own."""
    folder = tmp_path / "payments"
    shutil.copytree(PAYMENTS, folder, dirs_exist_ok=True)
    (folder / "estimators_of_a_test.py").write_text(MODULE)
    (folder / "worse_estimators_of_a_test.py").write_text(WORSE)
    text = (PAYMENTS / "app.yaml").read_text()
    assert " training: {" in text
    (folder / "app.yaml").write_text(text.replace(" training: {", f"{more} training: {{families: [{families}], ", 1))
    return folder


@pytest.mark.parametrize(("family", "words"), [
    ("boosting", "HistGradientBoostingClassifier of estimators_of_a_test:boosting cannot become an ONNX graph"),
    ("fails", "estimators_of_a_test:fails: expected an estimator, its factory ended with RuntimeError: no licence"),
    ("leaves", "its factory ended with SystemExit: 0"),
    ("asks", "its factory ended with TypeError: asks() missing 1 required positional argument"),
    ("missing", "expected a function missing without arguments in estimators_of_a_test"),
])  # fmt: skip
def test_what_an_application_brings_is_tried(tmp_path: Path, family: str, words: str) -> None:
    folder = payments_with(tmp_path, f'"estimators_of_a_test:{family}"')
    with pytest.raises(FamilyError) as refused:
        check_own_families(load_plan(folder), folder)
    assert words in str(refused.value)


def test_a_family_that_learns_no_such_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match=r"families that learn a model of kind binary \(logistic_regression, lightgbm"):
        load_plan(payments_with(tmp_path, "ridge_regression"))


def test_check_tries_families_where_they_can_end_nothing_but_themselves(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["check", str(payments_with(tmp_path, '"estimators_of_a_test:steps"'))]).exit_code == 0
    ended = CliRunner().invoke(app, ["check", str(payments_with(tmp_path, '"worse_estimators_of_a_test:ends"'))])
    words = " ".join(ended.output.split())
    assert ended.exit_code == 2 and "found one that ended its process (exit code 3)" in words and "worse_estimators_of_a_test:ends" in words


def test_a_family_that_hangs_is_ended(tmp_path: Path) -> None:
    folder = payments_with(tmp_path, '"worse_estimators_of_a_test:hangs"')
    with pytest.raises(FamilyError, match=r"within 0\.5 s, found one that hangs or takes longer \(models\..*worse_estimators_of_a_test:hangs"):
        try_own_families(load_plan(folder), folder, longest_s=0.5)


def test_a_service_tries_the_same_families_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []
    monkeypatch.setattr("tidemill.services.retraining.processes.family_check.try_own_families", lambda _plan, folder: tried.append(folder))
    folder, verdict = payments_with(tmp_path, '"estimators_of_a_test:steps"'), tmp_path / "state" / "own-families"

    def start() -> int:
        try_own_families_once(load_plan(folder), folder, verdict)
        return len(tried)

    assert [start(), start()] == [1, 1]
    (folder / "estimators_of_a_test.py").write_text(MODULE + "\n")
    assert [start(), start()] == [2, 2], "another content"
    verdict.write_text("torn")
    assert start() == 3
    payments_with(tmp_path, "lightgbm")
    assert start() == 3, "none of its own"


def test_families_that_failed_are_tried_at_each_start(tmp_path: Path) -> None:
    folder, verdict = payments_with(tmp_path, '"worse_estimators_of_a_test:ends"'), tmp_path / "own-families"
    for _ in range(2):
        with pytest.raises(FamilyError, match="found one that ended its process"):
            try_own_families_once(load_plan(folder), folder, verdict)


@pytest.mark.parametrize("family", ["estimators_of_a_test:steps", "estimators_of_a_test:averaged"])
def test_explanations_of_what_nobody_can_take_apart_are_refused(tmp_path: Path, family: str) -> None:
    own = f'"{family}", lightgbm'
    folder = payments_with(tmp_path, own)
    check_explained_families(load_plan(folder), folder)
    payments_with(tmp_path, own, " explain: {top: 3}\n   ")
    with pytest.raises(FamilyError) as refused:
        check_explained_families(load_plan(folder), folder)
    words = str(refused.value)
    assert ".explain: expected families whose models can be taken apart (logistic_regression, lightgbm, " in words
    assert f"found {family}, which becomes a graph of IsNaN, Where" in words and "Leave out explain" in words
    payments_with(tmp_path, "lightgbm", " explain: {top: 3}\n   ")
    check_explained_families(load_plan(folder), folder)
