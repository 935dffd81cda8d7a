"""An estimator of the application's own stands in its folder; one that cannot be served is refused by `check`, before anything runs."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidemill.services.cli.__main__ import app

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


@pytest.mark.parametrize(("family", "code", "words"), [
    ("estimators_of_a_test:steps", 0, "models"),
    ("estimators_of_a_test:boosting", 2, "HistGradientBoostingClassifier of estimators_of_a_test:boosting cannot become an ONNX graph"),
    ("estimators_of_a_test:fails", 2, "estimators_of_a_test:fails: expected an estimator, its factory ended with RuntimeError: no licence"),
    ("estimators_of_a_test:leaves", 2, "its factory ended with SystemExit: 0"),
    ("estimators_of_a_test:asks", 2, "its factory ended with TypeError: asks() missing 1 required positional argument"),
    ("estimators_of_a_test:missing", 2, "expected a function missing without arguments in estimators_of_a_test"),
    ("ridge_regression", 2, "families that learn a model of kind binary (logistic_regression, lightgbm"),
])  # fmt: skip
def test_check_tries_what_an_application_brings(tmp_path: Path, family: str, code: int, words: str) -> None:
    folder = tmp_path / "payments"
    shutil.copytree(PAYMENTS, folder)
    (folder / "estimators_of_a_test.py").write_text(MODULE)
    file = folder / "app.yaml"
    text = file.read_text()
    assert " training: {" in text
    file.write_text(text.replace(" training: {", f' training: {{families: ["{family}"], ', 1))
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == code and words in " ".join(result.output.split())


@pytest.mark.parametrize("family", ["estimators_of_a_test:steps", "estimators_of_a_test:averaged"])
def test_check_refuses_to_explain_what_nobody_can_take_apart(tmp_path: Path, family: str) -> None:
    folder = tmp_path / "payments"
    shutil.copytree(PAYMENTS, folder)
    (folder / "estimators_of_a_test.py").write_text(MODULE)
    file = folder / "app.yaml"
    text = file.read_text()
    own = text.replace(" training: {", f' training: {{families: ["{family}", lightgbm], ', 1)
    file.write_text(own)
    assert CliRunner().invoke(app, ["check", str(folder)]).exit_code == 0
    file.write_text(own.replace(" training: {", " explain: {top: 3}\n    training: {", 1))
    refused = CliRunner().invoke(app, ["check", str(folder)])
    words = " ".join(refused.output.split())
    assert refused.exit_code == 2 and ".explain: expected families whose models can be taken apart (logistic_regression, lightgbm, " in words
    assert f"found {family}, which becomes a graph of IsNaN, Where" in words and "Leave out explain" in words
    file.write_text(text.replace(" training: {", " explain: {top: 3}\n    training: {families: [lightgbm], ", 1))
    assert CliRunner().invoke(app, ["check", str(folder)]).exit_code == 0
