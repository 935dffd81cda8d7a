"""What `up` suggests can be done: the example event is one that the application takes, the commands are ones that exist."""

import json
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.help_examples import commands
from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.runs.last_run import UP
from tidemill.services.cli.__main__ import app
from tidemill.services.cli.first_steps import example_event, first_steps
from tidemill.shared.application.planning import load_plan
from tidemill.testing import ApplicationRun

ROOT = Path(__file__).parents[4]
ADDRESSES = dict(zip(VARIABLES, ("127.0.0.1:9", "http://127.0.0.1:8/apis", "redis://x"), strict=True))


@pytest.mark.parametrize("name", ["payments", "flights"])
def test_the_example_event_is_answered(name: str) -> None:
    with ApplicationRun(ROOT / "examples" / name) as run:
        ask = next(iter(run.plan.models.values())).ask
        event = example_event(run.plan.streams[ask], run.clock.now_ms())
        assert event is not None
        run.publish(ask, event)
        results = run.run()
    assert len(results.predictions) == 1 and not results.rejected


def test_every_line_can_be_copied_into_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = load_plan(ROOT / "examples" / "payments")
    given = Path("examples/payments"), plan, ADDRESSES, "http://127.0.0.1:7", 1_767_225_600_000
    curl, follow, audit = first_steps(*given, UP / "payments")
    words = shlex.split(curl)
    assert words[0] == "curl" and words[-1] == "http://127.0.0.1:7/v1/events/payments"
    assert json.loads(words[words.index("-d") + 1]).keys() == {field.name for field in plan.streams["payments"].user_arrow}
    first, second, python, program, app = shlex.split(follow)
    assert [first.split("=")[0], second.split("=")[0]] == list(VARIABLES[:2]) and app == "payments"
    assert ROOT / python == Path(sys.executable).parent / "python"
    assert program == "examples/subscribers/predictions.py"
    assert tuple(shlex.split(audit)[1:2]) in commands() and shlex.split(audit)[2:] == ["examples/payments"]
    elsewhere = first_steps(*given, Path("my runs/payments"))[-1]
    assert shlex.split(elsewhere)[3:] == ["--run", "my runs/payments"], "a run in a folder of its own is not found without it"


def test_the_command_says_its_version_and_what_it_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.output) == (0, f"tidemill {project['version']}\n")
    assert "Start with" in CliRunner().invoke(app, ["--help"]).output
