"""All versions of a run are trained again side by side: one line each, and nothing that could not be made again is hidden."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner, Result

from tests.unit.services.retraining.test_job import MODEL, World
from tidemill.offline.reproduce_all import reproduce_all
from tidemill.services.cli.__main__ import app
from tidemill.services.retraining.processes.job_files import JobResult
from tidemill.shared.application.planning import load_plan
from tidemill.shared.lake.names import OUTCOMES
from tidemill.shared.models.training_record import TrainingRecord, TrainingRecords

pytestmark = pytest.mark.usefixtures("forked_interpreters")
OWN = """from sklearn.linear_model import LogisticRegression


def factory():
    return LogisticRegression(C={strength})
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[JobResult]]:
    """A first fit, a refit and a second search, with an estimator of the application's own that is written anew after the first two."""
    folder = tmp_path_factory.mktemp("trained")
    world = World(folder)
    path = folder / "app.yaml"
    path.write_text(path.read_text().replace("families: [logistic_regression]", "families: ['shop_own:factory']"))
    results: list[JobResult] = []
    for strength, day, trigger in ((1.0, 30, "bootstrap"), (1.0, 45, "schedule"), (0.001, 60, "manual")):
        (folder / "shop_own.py").write_text(OWN.format(strength=strength))
        world.plan = load_plan(folder)
        world.archive(day, world.scores(results[-1]) if results else None)
        results.append(_in_a_process(world, day, trigger, results))
    return folder, results


def _in_a_process(world: World, day: int, trigger: str, before: list[JobResult]) -> JobResult:
    """Train as a live run does: its own process has imported no module of an earlier application."""
    from tidemill.services.retraining.own_families import forget_own_modules

    try:
        return world.train(day, trigger, *before)
    finally:
        forget_own_modules(world.folder)


def command(folder: Path, *more: str, jobs: int = 1) -> Result:
    return CliRunner().invoke(app, ["reproduce", str(folder), "--all", "--lake", str(folder / "lake"), "--jobs", str(jobs), *more])


@pytest.mark.lasts(20)
def test_every_version_is_made_again_side_by_side_each_with_its_own_module(trained: tuple[Path, list[JobResult]]) -> None:
    folder, results = trained
    assert results[2].details["recipe"] and results[2].artifact_sha256 != results[1].artifact_sha256
    remade = command(folder, "--json", jobs=2)
    lines = [json.loads(line) for line in remade.stdout.splitlines()]
    assert remade.exit_code == 0, remade.output
    assert [(line["version"], line["status"], line["made_sha256"]) for line in lines] == sorted(
        (one.version, "identical", one.artifact_sha256) for one in results
    )
    # One process for both modules: the second must not be the first one's.
    done: list[Any] = []
    versions = [(MODEL, one.version) for one in (results[0], results[2])]
    one_process = reproduce_all(folder, str(folder / "lake"), str(folder / "artifacts"), versions, 1, done.append)
    assert [one.status for one in one_process] == ["identical"] * 2 and done == one_process


@pytest.mark.lasts(10)
def test_what_was_pruned_or_has_no_record_has_its_line(trained: tuple[Path, list[JobResult]], tmp_path: Path) -> None:
    folder, (first, second, third) = trained
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    records = TrainingRecords(str(copy / "artifacts"))
    (copy / "artifacts" / "records" / MODEL / f"{third.version}.json").unlink()
    table = DeltaTable(str(copy / "lake" / load_plan(copy).application.app / OUTCOMES))
    table.delete("journal_offset < 1000")
    table.optimize.compact()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    record = records.get(MODEL, second.version)
    assert record is not None
    records.put(TrainingRecord(**{**record.model_dump(), "application_hash": "0" * 64}))
    remade = command(copy)
    words = " ".join(remade.output.split())
    assert remade.exit_code == 1 and "0 of 3 are the same bytes; 1 pruned, 1 failed, 1 unrecorded" in words
    names = [f"{MODEL}@{one.version}" for one in (first, second, third)]
    for line in (
        f"{names[0]} pruned {names[0]}: its dataset was pruned: expected",
        f"{names[1]} failed {names[1]}: expected an application of the hash 000000000000",
        f"{names[2]} unrecorded expected a training record in",
    ):
        assert words.count(line) == 1, words


@pytest.mark.lasts(10)
def test_other_bytes_are_told_with_their_differences_and_a_process_that_dies_costs_its_own_version_alone(
    trained: tuple[Path, list[JobResult]], tmp_path: Path
) -> None:
    """A record that says another model came of the training stands in for another architecture."""
    folder, (first, second, third) = trained
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    records = TrainingRecords(str(copy / "artifacts"))
    record, dying = records.get(MODEL, first.version), records.get(MODEL, second.version)
    assert record is not None and dying is not None
    records.put(TrainingRecord(**{**record.model_dump(), "artifact_sha256": third.artifact_sha256, "passed": not record.passed}))
    deadly = "import os\nimport signal\n\nos.kill(os.getpid(), signal.SIGKILL)\n"
    records.put(TrainingRecord(**{**dying.model_dump(), "application": {**dying.application, "shop_own.py": deadly}}))
    remade = command(copy)
    words = " ".join(remade.output.split())
    assert remade.exit_code == 1 and "1 of 3 are the same bytes; 1 differs, 1 failed" in words
    assert f"{MODEL}@{third.version} identical" in words, "by the next process"
    assert "the training was decided upon differently this time" in words
    apart = re.search(rf"{MODEL}@{first.version} differs ([\d.e-]+) ([\d.e-]+)", words)
    assert apart is not None and 0 < float(apart[2]) < float(apart[1])
    assert f"{MODEL}@{second.version} failed its process was ended by signal 9; 9 is mostly too little memory: fewer --jobs" in words


def test_nothing_on_record_and_words_that_do_not_fit_are_refused(trained: tuple[Path, list[JobResult]], tmp_path: Path) -> None:
    folder, results = trained
    empty = CliRunner().invoke(app, ["reproduce", str(folder), "--all", "--lake", str(folder / "lake"), "--artifacts", str(tmp_path)])
    assert empty.exit_code == 2 and "found none" in empty.output
    for words, expected in (
        ([f"{MODEL}@{results[0].version}", "--all"], "expected a model or nothing with --all"),
        ([f"{MODEL}@{results[0].version}", "--jobs", "2"], "expected --all: one version is one training"),
    ):
        refused = CliRunner().invoke(app, ["reproduce", str(folder), *words, "--lake", str(folder / "lake")])
        assert refused.exit_code == 2 and expected in " ".join(refused.output.replace("│", " ").split())
