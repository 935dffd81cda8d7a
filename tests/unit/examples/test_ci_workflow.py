"""The workflow for a forge and the guide on changes: their commands exist and take what they are given, and the workflow follows its plan."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.patience import patient
from tests.unit.tidemill.planning.changed import EXAMPLE, changed
from tidemill.services.cli.__main__ import app

ROOT = Path(__file__).parents[3]
WORKFLOW = ROOT / "examples" / "ci" / "application.yml"
GUIDE = ROOT / "docs" / "guide" / "changing-an-application.md"


def steps(job: str) -> list[dict[str, Any]]:
    read: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    made: list[dict[str, Any]] = read["jobs"][job]["steps"]
    return made


def commands(text: str) -> Iterator[list[str]]:
    """Each `tidemill ...` up to a redirection or the next command."""
    for line in re.findall(r"\btidemill ((?:check|plan|apply|up|audit|switches|replay|backtest)\b[^\n>|;&]*)", text):
        yield shlex.split(line.replace("$APPLICATION", str(EXAMPLE)).replace("$RUN", "run"))


def parsed(words: list[str], folder: Path) -> None:
    """Parse a command without running it, on folders that are there."""
    name, *rest = words
    given = [str(EXAMPLE) if "payments" in word and not word.startswith(("-", ".tidemill")) else word for word in rest]
    for word in given:
        if word.endswith(".json"):
            (folder / word).write_text("{}")
    given = [str(folder / word) if word.endswith(".json") else word for word in given]
    group = typer.main.get_command(app)
    command = group.get_command(None, name)  # type: ignore[attr-defined]  # a typer application is a click group
    assert command is not None, name
    command.make_context(name, given)


def test_every_command_of_the_workflow_and_the_guide_parses(tmp_path: Path) -> None:
    for text, least in (
        (WORKFLOW.read_text(encoding="utf-8"), 5),
        ("\n".join(re.findall(r"```(?:bash|sh)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)), 5),
    ):
        lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        written = list(commands(lines))
        assert len(written) >= least and {"check", "plan", "apply"} <= {words[0] for words in written}
        for words in written:
            parsed(words, tmp_path)


@pytest.mark.parametrize(
    ("edit", "verdict"),
    [(("trials: 4", "trials: 5"), 0), (("partitions: 1", "partitions: 4"), 1)],
    ids=["changes", "refused"],
)
def test_a_merge_request_passes_when_its_plan_can_be_applied(tmp_path: Path, edit: tuple[str, str], verdict: int) -> None:
    changed(tmp_path / "changed" / "payments", edit)
    changed(tmp_path / "main" / "payments")
    script = next(step["run"] for step in steps("plan") if step.get("name") == "plan")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "tidemill").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tidemill "$@"\n')
    (tools / "tidemill").chmod(0o755)
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "APPLICATION": "payments", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=patient(120), check=False
    )
    assert done.returncode == verdict, done.stdout + done.stderr
    assert (tmp_path / "plan.html").is_file() and json.loads((tmp_path / "plan.json").read_text())["app"] == "payments"


def test_the_main_branch_applies_what_can_be_applied_and_stops_at_what_cannot(tmp_path: Path) -> None:
    script = next(step["run"] for step in steps("apply") if step.get("name") == "plan and apply")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "tidemill").write_text('#!/bin/sh\necho "$@" >> called\n[ "$1" = plan ] && exit $PLANNED\nexit 0\n')
    (tools / "tidemill").chmod(0o755)
    for planned, verdict, called in ((0, 0, ["plan"]), (10, 0, ["plan", "apply"]), (1, 1, ["plan"]), (2, 2, ["plan"])):
        (tmp_path / "called").unlink(missing_ok=True)
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "APPLICATION": "payments", "RUN": "run", "PLANNED": str(planned)}
        done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, timeout=patient(60), check=False)
        assert done.returncode == verdict
        assert [line.split()[0] for line in (tmp_path / "called").read_text().splitlines()] == called
