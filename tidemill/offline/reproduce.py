"""Trains a version again from its record and the archive, and says whether the same bytes come."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from deltalake.exceptions import DeltaError

from tidemill.services.retraining.own_families import forget_own_modules
from tidemill.services.retraining.processes.job import run
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult
from tidemill.shared.application.application_files import write_application
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.view_version import feature_versions
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.lake.training_set import TrainingSet, training_set
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.training_environment import differences
from tidemill.shared.models.training_record import TrainingRecord, TrainingRecords

_STORED_ROWS = 2_000
Train = Callable[[JobRequest], JobResult]


class UnknownTrainingError(LookupError):
    """No training of that name is on record: the message says which are."""


class ReproductionError(RuntimeError):
    """A training cannot be made again; the message says what is missing, and what to do."""


class PrunedDatasetError(ReproductionError):
    """The rows that a training has learned from are no longer in the archive."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A version and what came of training it again.

    Attributes
    ----------
    recorded_sha256, made_sha256
        Addresses of the two artifacts: equal when every byte is.
    environment
        What is not as it was when the version was trained: then and now, by name. Nothing is promised unless it is empty.
    rows, largest, mean
        Stored rows that both were asked about where the bytes differ, and the absolute differences of their scores.
    verdict_agrees
        Whether the training was decided upon as before.
    notes
        What else is to be known.
    """

    model: str
    version: str
    recorded_sha256: str
    made_sha256: str
    environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rows: int = 0
    largest: float = 0.0
    mean: float = 0.0
    verdict_agrees: bool = True
    notes: tuple[str, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether every byte is the same."""
        return self.recorded_sha256 == self.made_sha256


def recorded_versions(records: TrainingRecords, models: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Return model and version of everything that can be trained again, of these models or of all."""
    return [(model, version) for model, version in records.names() if not models or model in models]


def reproduce(plan: Plan, lake: Lake, lake_uri: str, artifacts: str, model: str, version: str, train: Train = run) -> Reproduction:
    """Train a version again.

    The application, the request, champion and predecessor are those of the record; vectors and outcomes are read at the recorded Delta versions, or,
    where those are gone, at the latest ones if the content is still the same. What is made goes to a folder of its own, and nothing that exists is
    touched.

    Parameters
    ----------
    plan
        The application as it is now: one that has changed since is said, and does not matter.
    lake_uri, artifacts
        Addresses of the archive and of the artifacts, as the training had them.
    train
        Makes the training; by default in this process.

    Raises
    ------
    UnknownTrainingError, ReproductionError, ArtifactError, TransientError
    """
    records, store = TrainingRecords(artifacts), ArtifactStore(artifacts)
    record = records.get(model, version)
    if record is None:
        known = ", ".join(name for _, name in recorded_versions(records, (model,))) or "none: versions of Tidemill before records kept none"
        raise UnknownTrainingError(f"expected a version of {model} with a training record in {artifacts}, got {version}; found {known}")
    folder = Path(tempfile.mkdtemp(prefix="tidemill-reproduce-"))
    try:
        return _reproduced(plan, lake, lake_uri, store, record, folder, train)
    finally:
        forget_own_modules(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _reproduced(plan: Plan, lake: Lake, lake_uri: str, store: ArtifactStore, record: TrainingRecord, folder: Path, train: Train) -> Reproduction:
    application = write_application(record.application, record.application_root, folder / "application")
    recorded = load_plan(application)
    if recorded.application_hash != record.application_hash:
        raise ReproductionError(
            f"{record.model}@{record.version}: expected an application of the hash {record.application_hash[:12]}, the recorded files give "
            f"{recorded.application_hash[:12]}: this version of Tidemill reads them differently, or the record was changed; reproduce with the code "
            f"that trained it ({record.environment.get('code', 'unknown')}, {record.environment.get('code_sha256', '')[:12]})"
        )
    if recorded.application.app != plan.application.app:
        raise ReproductionError(f"expected a training of {plan.application.app}, the record is of the application {recorded.application.app}")
    notes = []
    if plan.application_hash != record.application_hash:
        hashes = f"hash {record.application_hash[:12]}, now {plan.application_hash[:12]}"
        notes.append(f"the application has changed since ({hashes}): trained as recorded")
    rows, versions = _dataset(recorded, lake, record, notes)
    made = ArtifactStore(str(folder / "artifacts"))
    for address in filter(None, (record.request["champion"], record.request["predecessor"])):
        made.put(store.get(address))
    request = JobRequest(
        **{**record.request, "application": str(application), "lake": lake_uri, "artifacts": str(folder / "artifacts"), "versions": versions}
    )
    result = train(request)
    if not result.finished:
        raise ReproductionError(f"{record.model}@{record.version}: the training did not finish this time: {result.reason}")
    reproduction = Reproduction(
        record.model, record.version, record.artifact_sha256, result.artifact_sha256, differences(record.environment),
        verdict_agrees=result.passed == record.passed, notes=tuple(notes),
    )  # fmt: skip
    return reproduction if reproduction.is_identical else _compared(reproduction, store, made, rows)


def _dataset(plan: Plan, lake: Lake, record: TrainingRecord, notes: list[str]) -> tuple[TrainingSet, dict[str, int]]:
    """Return the rows as they were, and the Delta versions that give them."""
    model, before = plan.models[record.model], int(record.dataset["before_ms"])
    model = model.with_classes(json.loads(record.dataset.get("classes", "[]")))
    versions = {table: int(record.dataset[f"{table}_version"]) for table in (VECTORS, OUTCOMES)}
    name = f"{record.model}@{record.version}"
    try:
        rows = training_set(lake, model, before, feature_versions(plan), versions)
    except (DeltaError, FileNotFoundError, OSError) as error:
        if not (lake.exists(VECTORS) and lake.exists(OUTCOMES)):
            raise ReproductionError(f"{name}: expected archived vectors and outcomes in {lake.root}, found none; look at --run, --lake") from error
        # A table that was compacted and vacuumed still has its rows, only not under that version.
        latest = {table: lake.version(table) for table in versions}
        rows = training_set(lake, model, before, feature_versions(plan), latest)
        if rows.version["sha256"] != record.dataset["sha256"]:
            raise PrunedDatasetError(
                f"{name}: its dataset was pruned: expected {record.dataset['rows']} rows of {VECTORS} version {versions[VECTORS]} and {OUTCOMES} "
                f"version {versions[OUTCOMES]} in {lake.root}, which are gone ({str(error).splitlines()[0]}); the latest versions give "
                f"{rows.version['rows']} rows of another content. Restore the tables from a backup"
            ) from error
        notes.append(f"Delta versions {versions} are gone; the latest, {latest}, hold the same rows")
        versions = latest
    if rows.version["sha256"] != record.dataset["sha256"]:
        raise ReproductionError(
            f"{name}: its dataset has changed: expected {record.dataset['rows']} rows with the SHA-256 {record.dataset['sha256'][:12]}, found "
            f"{rows.version['rows']} with {rows.version['sha256'][:12]} at the same Delta versions in {lake.root}: another archive stands there"
        )
    return rows, versions


def _compared(reproduction: Reproduction, store: ArtifactStore, made: ArtifactStore, rows: TrainingSet) -> Reproduction:
    """Hold the scores of both against each other on stored rows, evenly taken."""
    table = rows.rows
    places = np.arange(min(_STORED_ROWS, table.num_rows)) * table.num_rows // max(1, min(_STORED_ROWS, table.num_rows))
    batch = table.take(places).combine_chunks().to_batches()[0]
    old, new = (
        OnnxScorer(Artifact.from_bytes(place.get(address))).score(batch)
        for place, address in ((store, reproduction.recorded_sha256), (made, reproduction.made_sha256))
    )
    apart = np.abs(old - new)
    return replace(reproduction, rows=len(places), largest=float(apart.max()), mean=float(apart.mean()))
