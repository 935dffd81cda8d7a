"""`tidemill plan`: against a folder as CI has it, and against a run by the run's own copy of its application."""

import json
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from tests.unit.tidemill.planning.changed import EXAMPLE, SECOND_MODEL, changed
from tidemill.runs.application_copy import keep_application
from tidemill.runs.instance import Instance
from tidemill.services.cli.__main__ import app
from tidemill.shared.application.application_files import content_digest

LAST = "holdout_days: 3, min_rows: 1500}"


def invoke(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_exit_codes_tell_a_pipeline_what_to_do(tmp_path: Path) -> None:
    assert invoke(EXAMPLE, "--against", EXAMPLE)[0] == 0
    code, text = invoke(changed(tmp_path / "more", (LAST, LAST + SECOND_MODEL)), "--against", EXAMPLE)
    assert code == 10 and "+ models large" in text and "This can be applied." in text
    code, text = invoke(changed(tmp_path / "refused", ("partitions: 1", "partitions: 4")), "--against", EXAMPLE)
    assert code == 1 and "REFUSED partitions" in text and "nothing of it would be" in text
    broken = changed(tmp_path / "broken", ("value: amount, aggregate: [mean", "value: amounts, aggregate: [mean"))
    code, text = invoke(broken, "--against", EXAMPLE)
    assert code == 2 and "app.yaml:" in text
    assert invoke(EXAMPLE, "--against", broken)[0] == 2
    assert invoke(EXAMPLE, "--against", EXAMPLE, "--run", tmp_path)[0] == 2


def test_json_and_page_hold_the_plan(tmp_path: Path) -> None:
    more = changed(tmp_path / "more", (LAST, LAST + SECOND_MODEL))
    code, text = invoke(more, "--against", EXAMPLE, "--json")
    values = json.loads(text)
    assert code == 10 and values["verdict"] == "changes" and values["content"] == content_digest(more)
    assert [(one["section"], one["name"], one["action"]) for one in values["difference"]["changes"]] == [("models", "large", "added")]
    page = tmp_path / "out" / "plan.html"
    assert invoke(more, "--against", EXAMPLE, "--html", page)[0] == 10
    assert "models large" in page.read_text() and "<script" not in page.read_text()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    content = keep_application(EXAMPLE, folder)
    Instance("gone", "live", {}, str(folder / "artifacts"), content=str(content)).write(folder)
    return folder


def test_a_run_is_compared_by_its_own_copy(run: Path, tmp_path: Path) -> None:
    assert invoke(EXAMPLE, "--run", run)[0] == 0
    code, text = invoke(changed(tmp_path / "more", (LAST, LAST + SECOND_MODEL)), "--run", run)
    assert code == 10 and "+ models large" in text


def test_a_run_that_is_not_there_or_kept_nothing_is_said(tmp_path: Path) -> None:
    code, text = invoke(EXAMPLE, "--run", tmp_path)
    assert code == 2 and "found none" in text
    Instance(str(EXAMPLE), "live", {}, "artifacts", "", 0, psutil.Process().create_time()).write(tmp_path)
    code, text = invoke(EXAMPLE, "--run", tmp_path)
    assert code == 2 and "start it again" in text
