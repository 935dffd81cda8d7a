"""Versions are trained again from their records: the same bytes, or what differs; what is missing is said by name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from tests.unit.services.retraining.test_job import MODEL, World
from tidemill.offline.reproduce import Reproduction, ReproductionError, UnknownTrainingError, reproduce
from tidemill.services.cli.__main__ import app
from tidemill.services.retraining.processes.job_files import JobResult
from tidemill.shared.application.planning import load_plan
from tidemill.shared.lake.names import OUTCOMES
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.training_environment import training_environment
from tidemill.shared.models.training_record import TrainingRecord, TrainingRecords


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[JobResult]]:
    """A first fit, its refit, and a search after an alarm, with more rows behind each; boosted trees and calibrations among them."""
    folder = tmp_path_factory.mktemp("trained")
    world = World(folder)
    path = folder / "app.yaml"
    path.write_text(path.read_text().replace("families: [logistic_regression]", "families: [logistic_regression, lightgbm]"))
    world.plan = load_plan(folder)
    world.archive(30)
    first = world.train(30, "bootstrap")
    world.archive(45, world.scores(first))
    second = world.train(45, "schedule", first)
    world.archive(60, world.scores(second))
    third = world.train(60, "drift", first, second)
    return world, [first, second, third]


def again(world: World, version: str, **changes: Any) -> Reproduction:
    return reproduce(world.plan, world.lake, str(world.folder / "lake"), str(world.folder / "artifacts"), MODEL, version, **changes)


@pytest.mark.lasts(12)
def test_first_fits_refits_and_searches_are_made_again_byte_for_byte(trained: tuple[World, list[JobResult]]) -> None:
    world, made = trained
    for result in made:
        remade = again(world, result.version)
        assert remade.is_identical and remade.made_sha256 == result.artifact_sha256
        assert (remade.environment, remade.notes, remade.verdict_agrees) == ({}, (), True)


def test_a_record_holds_what_the_training_was_made_of(trained: tuple[World, list[JobResult]]) -> None:
    world, (first, second, third) = trained
    records = TrainingRecords(str(world.folder / "artifacts"))
    one, refit, last = (records.get(MODEL, result.version) for result in (first, second, third))
    assert one is not None and refit is not None and last is not None
    assert one.application["app.yaml"] == (world.folder / "app.yaml").read_text() and any(name.endswith(".avsc") for name in one.application)
    lock = Path(__file__).parents[4] / "requirements.lock"
    assert one.environment["lock_sha256"] == subprocess.run(["sha256sum", lock], capture_output=True, text=True, check=True).stdout.split()[0]
    assert (
        one.environment["python"] == ".".join(map(str, sys.version_info[:3]))
        and one.environment["cpu_features"]
        and len(one.environment["code_sha256"]) == 64
    )
    assert (last.request["champion"], last.request["predecessor"]) == (second.artifact_sha256, first.artifact_sha256)
    assert (one.split["end"], one.artifact_sha256) == (int(first.details["before_ms"]), first.artifact_sha256)
    assert {trial["state"] for trial in one.trials} <= {"complete", "pruned"} and len(one.trials) == first.figures["trials"] and not refit.trials
    assert min(trial["losses"][-1] for trial in one.trials if trial["state"] == "complete") == first.figures["validation_loss"]
    boosted = [record for record in (one, refit, last) if json.loads(record.details["recipe"])["parameters"]["family"] == "lightgbm"]
    assert all(record.library_text.startswith("tree\nversion=") for record in boosted)
    assert first.details["code_sha256"] == one.environment["code_sha256"]


def test_another_result_is_told_by_its_difference_of_scores(trained: tuple[World, list[JobResult]]) -> None:
    """A training that finds another model, as on another architecture: the refit stands in for it."""
    world, (first, second, _) = trained
    folder = world.folder / "artifacts"

    def other(request: Any) -> JobResult:
        for result in (first, second):
            world.store.put(world.store.get(result.artifact_sha256))
        target = Path(request.artifacts) / second.artifact_sha256[:2]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / second.artifact_sha256[:2] / second.artifact_sha256, target / second.artifact_sha256)
        return second

    remade = again(world, first.version, train=other)
    rows = int(first.details["rows"])
    apart = np.abs(world.scores(first) - world.scores(second))[:rows]
    assert not remade.is_identical and 0 < remade.rows <= 2_000
    assert 0 < remade.mean < remade.largest <= apart.max() + 1e-12 and remade.mean == pytest.approx(apart.mean(), rel=0.1)


def test_what_cannot_be_made_again_is_said(trained: tuple[World, list[JobResult]], tmp_path: Path) -> None:
    world, (first, second, _) = trained
    with pytest.raises(UnknownTrainingError, match=f"got nope; found .*{first.version}"):
        again(world, "nope")
    shutil.copytree(world.folder, tmp_path / "copy")
    artifacts, lake = str(tmp_path / "copy" / "artifacts"), tmp_path / "copy" / "lake"
    records = TrainingRecords(artifacts)
    record = records.get(MODEL, first.version)
    assert record is not None
    records.put(TrainingRecord(**{**record.model_dump(), "application_hash": "0" * 64}))
    copied = type(world.lake)(str(lake), world.plan.application.app)
    with pytest.raises(ReproductionError, match="expected an application of the hash 000000000000, the recorded files give"):
        reproduce(world.plan, copied, str(lake), artifacts, MODEL, first.version)
    records.put(record)
    path = lake / world.plan.application.app / OUTCOMES
    table = DeltaTable(str(path))
    table.delete(f"journal_offset < {len(world.times) // 8}")
    table.optimize.compact()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(
        ReproductionError, match=r"its dataset was pruned: expected \d+ rows of vectors version \d+ and outcomes version \d+ in .*which are gone"
    ):
        reproduce(world.plan, copied, str(lake), artifacts, MODEL, first.version)
    shutil.rmtree(lake)
    with pytest.raises(ReproductionError, match=r"expected archived vectors and outcomes in .*found none"):
        reproduce(world.plan, copied, str(lake), artifacts, MODEL, second.version)


def test_a_compacted_archive_still_gives_the_same_bytes(trained: tuple[World, list[JobResult]], tmp_path: Path) -> None:
    world, (first, _, _) = trained
    shutil.copytree(world.folder, tmp_path / "copy")
    lake = tmp_path / "copy" / "lake"
    table = DeltaTable(str(lake / world.plan.application.app / OUTCOMES))
    table.optimize.compact()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    copied = type(world.lake)(str(lake), world.plan.application.app)
    remade = reproduce(world.plan, copied, str(lake), str(tmp_path / "copy" / "artifacts"), MODEL, first.version)
    assert remade.is_identical and len(remade.notes) == 1 and "the latest, {'vectors'" in remade.notes[0]


@pytest.mark.lasts(10)
def test_the_command_trains_again_with_cpu_features_masked(trained: tuple[World, list[JobResult]]) -> None:
    world, (first, _, _) = trained
    words = [str(world.folder), f"{MODEL}@{first.version}", "--lake", str(world.folder / "lake"), "--json"]
    features = training_environment()["cpu_features"].split()
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(features[1:])}
    done = subprocess.run([sys.executable, "-m", "tidemill", "reproduce", *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (0, 1), done.stderr
    printed = json.loads(done.stdout)
    assert set(printed["environment"]) == ({"cpu_features"} if features[1:] else set())
    # One architecture's vector instructions may round another way: then the difference is told, and small.
    assert printed["identical"] or 0 < printed["largest"] < 0.05
    unknown = CliRunner().invoke(app, ["reproduce", str(world.folder), f"{MODEL}@nope", "--lake", str(world.folder / "lake")])
    assert unknown.exit_code == 2 and "got nope; found" in unknown.output
    for wrong, expected in ((["fraud"], "expected MODEL@VERSION, or --all, got 'fraud'"), (["x@y"], f"expected one of {MODEL}, got x")):
        refused = CliRunner().invoke(app, ["reproduce", str(world.folder), *wrong, "--lake", str(world.folder / "lake")])
        assert refused.exit_code == 2 and expected in " ".join(refused.output.replace("│", " ").split())


def test_records_of_models_do_not_stand_among_artifacts(trained: tuple[World, list[JobResult]]) -> None:
    world, made = trained
    for address in world.store.addresses():
        Artifact.from_bytes(world.store.get(address))
    names = list(TrainingRecords(str(world.folder / "artifacts")).names())
    assert names == sorted((MODEL, result.version) for result in made)
