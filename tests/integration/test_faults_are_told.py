"""A short replay of files with faults in them: named on the screen, failed by its exit code, whole in the lake and clean in the audit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from tests.integration.meters import write_application
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.services.cli.__main__ import app

ROOT = Path(__file__).parents[2]
NOON, COUNT = 1_704_110_400_000, 40
NEGATIVE, LABEL_TWO = range(3), (7, 8)


def write_files(folder: Path) -> None:
    folder.mkdir()
    readings = [
        {
            "reading_id": f"r{i}", "meter": str(i % 4), "read_at": NOON + i * 60_000,
            "kwh": -1.0 if i in NEGATIVE else 1.0,
        }
        for i in range(COUNT)
    ]  # fmt: skip
    faults = [
        {
            "fault_id": f"f{i}", "reading_id": f"r{i}", "meter": float(i % 4), "found_at": NOON + (i + 5) * 60_000,
            "faulty": 2.0 if i in LABEL_TWO else 0.0,
        }
        for i in range(6, 12)
    ]  # fmt: skip
    for name, rows in (("readings", readings), ("faults", faults)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def tidemill(*words: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidemill", *words]
    return subprocess.run(command, cwd=ROOT, env={**environment, "COLUMNS": "300"}, capture_output=True, text=True, timeout=patient(200), check=False)


@pytest.mark.lasts(46)
@pytest.mark.timeout(300)
def test_a_replay_names_what_was_rejected_fails_for_it_and_leaves_a_whole_lake(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path
) -> None:
    application, run = write_application(tmp_path / "application", application_name), tmp_path / "run"
    write_files(tmp_path / "data")
    environment = {**os.environ, **infrastructure.environment}
    told = tidemill("replay", str(application), str(tmp_path / "data"), "--up", "--run", str(run), environment=environment)
    said = told.stdout + told.stderr
    assert told.returncode == 3, said
    assert f"{len(LABEL_TWO)} records of {application_name}-journal rejected by outcomes as invalid_label" in said
    assert "expected 0 or 1 as the label of faulty, found 2.0" in said
    assert f"{len(NEGATIVE)} records of {application_name}-readings rejected by ingestion as expectation" in said, "declared, but named all the same"
    assert "exit code 3" in said and "Traceback" not in said

    accepted = COUNT - len(NEGATIVE)
    for table, rows in (("journal_readings", accepted), ("journal_faults", 6), ("vectors", accepted), ("predictions", accepted)):
        assert DeltaTable(str(run / "lake" / application_name / table)).to_pyarrow_table().num_rows == rows, table
    audited = CliRunner().invoke(app, ["audit", str(application), "--run", str(run)], env=infrastructure.environment)
    assert audited.exit_code == 0, audited.output
