"""Trainings in a process of their own, which takes them from its parent (`WarmChild`), one at a time.

Run as ``python -m tidemill.services.retraining.processes.job``.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import tidemill.shared.rare_collections  # noqa: F401 - before the libraries
from tidemill.services.retraining.domain.admissions import PUT_OFF, RECIPE, SEARCHED
from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
from tidemill.services.retraining.domain.examples import label_horizon_ms
from tidemill.services.retraining.domain.families.family import FamilyError
from tidemill.services.retraining.domain.kept_answers import FitAnswers, anew
from tidemill.services.retraining.domain.latency import judge_latency
from tidemill.services.retraining.domain.learnable import (
    Learnable,
    NoRefitError,
    expect_new_rows,
    expect_right_labels,
    expect_usual_requests,
    learnable,
    refits_only,
)
from tidemill.services.retraining.domain.recipe import features_digest
from tidemill.services.retraining.domain.refit_checks import missing_inputs
from tidemill.services.retraining.domain.search_turn import ALARM, search_turn
from tidemill.services.retraining.domain.steps import TrainingObserver, nobody
from tidemill.services.retraining.domain.succession import answered_fairly, does_better, first_model, successor
from tidemill.services.retraining.domain.training_context import Proposal, TrainingContext
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.services.retraining.labelled_rows import examples_of, requests_between
from tidemill.services.retraining.learned_classes import choices_of_classes, left_out
from tidemill.services.retraining.own_families import check_own_families
from tidemill.services.retraining.processes.job_files import PASSING, JobRequest, JobResult, progress_file, trials_folder, version_name
from tidemill.services.retraining.processes.kept_files import KeptFiles
from tidemill.services.retraining.processes.patient_put import put_patiently
from tidemill.services.retraining.processes.scoring_cost import measure
from tidemill.services.retraining.processes.warm_child import serve
from tidemill.services.retraining.registration import registration
from tidemill.shared.application.application_files import application_texts
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.view_version import feature_versions, view_version
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.served_scores import served_scores
from tidemill.shared.lake.tables import Lake
from tidemill.shared.lake.training_set import TrainingSet, numbered, training_set
from tidemill.shared.log.errors import TransientError
from tidemill.shared.models.artifacts import Artifact, ArtifactError, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.served_model import ServedModel, as_kind
from tidemill.shared.models.training_environment import training_environment
from tidemill.shared.models.training_record import TrainingRecord, TrainingRecords

log = logging.getLogger(__name__)
_UNHURRIED = ("schedule", "labels")
"""What asks for a training although nothing has happened."""
_ADDRESSES = ("application", "lake", "artifacts", "versions", "max_duration_ms", "retries", "retry_delay_ms")


def run(request: JobRequest, told: TrainingObserver = nobody, kept: FitAnswers = anew) -> JobResult:
    """Make the model that is to serve next, store it, and say whether it may (`succession`).

    Parameters
    ----------
    told
        Of each step: what is done now, how many of its parts are done, and how many there are.
    kept
        Answers of fits that an attempt before has made.
    """
    told("reading rows", 0, 1)
    plan = load_plan(Path(request.application))
    model = plan.models[request.retraining["model"]]
    version = version_name(request.retraining)
    lake = Lake(request.lake, plan.application.app)
    if missing := [table for table in (VECTORS, OUTCOMES) if not lake.exists(table)]:
        return _failed(version, f"expected labelled rows in the lake, found no {' and no '.join(missing)} yet")
    store = ArtifactStore(request.artifacts)
    try:
        rows = training_set(lake, model, int(request.retraining["journal_time"]), feature_versions(plan), request.versions)
    except FileNotFoundError as error:
        # It may pass: a table that is compacted meanwhile has other files at the next look.
        raise FileNotFoundError(f"a file of the archive is gone, pruned or vacuumed without regard to what refers to it: {error}") from error
    dataset = rows.version
    try:
        check_own_families(plan, Path(request.application))
        attempt = _proposed(request, plan, model, version, lake, store, rows, told, kept)
        bench, dataset, proposal = attempt.bench, attempt.dataset, attempt.proposal
        champion, predecessor, reverse = attempt.champion, attempt.predecessor, attempt.reverse
        verdict = proposal.verdict
        told("storing", 0, 1)
        content = proposal.artifact.to_bytes()
        address = put_patiently("model", lambda: store.put(content))
        scorer = OnnxScorer(Artifact.from_bytes(store.get(address)))
    except NoRefitError as error:
        return replace(_failed(version, str(error), dataset), skipped=True)
    except (TooFewRowsError, FamilyError, ArtifactError) as error:
        return _failed(version, str(error), dataset)
    fairness = answered_fairly(bench, scorer)
    limits = model.settings.gate.latency
    # Measured only where it is asked for: without a clock a training is a pure function of its request.
    cost = measure(scorer, champion, bench.examples.features) if limits is not None else None
    slow = judge_latency(limits, cost) if limits is not None and cost is not None else ""
    if verdict.passed and (problem := missing_inputs(bench.kind, scorer, bench.examples.features) or fairness.problem or slow):
        verdict = GateVerdict(False, problem, {})
    if reverse is None and predecessor is not None and champion is not None and not verdict.passed:
        reverse = does_better(bench, predecessor, champion, proposal.spent)
    details = _details(plan, bench, proposal, dataset)
    if _search_turn(request, model) == "later":
        details = {SEARCHED: PUT_OFF, **details}
    figures = {**proposal.figures, **fairness.figures, **(cost.figures if cost else {}), **(reverse.figures if reverse else {})}
    better = reverse is not None and reverse.passed
    reason = f"{verdict.reason}; the model before does better: {reverse.reason}" if reverse is not None and better else verdict.reason
    registered = registration(
        request, plan, version, GateVerdict(verdict.passed, reason, {}), store.uri_of(address), address, figures, details, proposal.recipe,
        proposal.trials,
    )  # fmt: skip
    _keep_record(request, plan, proposal, version, address, verdict.passed, reason, dataset, details)
    return JobResult(
        finished=True, reason=reason, version=version, passed=verdict.passed, roll_back=better, artifact_sha256=address,
        artifact_uri=store.uri_of(address), threshold=proposal.artifact.signature.threshold, figures=figures, details=details, record=registered,
        classes=list(bench.kind.classes) if model.learns_classes else None,
    )  # fmt: skip


def _details(plan: Plan, bench: TrainingContext, proposal: Proposal, dataset: Mapping[str, str]) -> dict[str, str]:
    """Return what stands beside the figures: the recipe, the rows, the code and the application that it was made by."""
    served, environment = proposal.artifact.signature, training_environment()
    return {
        **{name: str(value) for name, value in proposal.recipe.parameters.items()},
        **dataset,
        **{name: value for name, value in served.details.items() if name.startswith(("learned_", "judged_", "known_"))},
        **proposal.details,
        RECIPE: proposal.recipe.text,
        "horizon_ms": str(bench.horizon_ms),
        "code": environment["code"],
        "code_sha256": environment["code_sha256"],
        "lock_sha256": environment["lock_sha256"],
        "python": environment["python"],
        "application": plan.application_hash,
        "views": view_version(plan),
        "seed": str(bench.settings.training.seed),
    }


def _keep_record(
    request: JobRequest, plan: Plan, proposal: Proposal, version: str, address: str, passed: bool, reason: str, dataset: dict[str, str],
    details: dict[str, str],
) -> None:  # fmt: skip
    """Write down what makes the model again, beside the artifacts."""
    asked = {name: value for name, value in asdict(request).items() if name not in _ADDRESSES}
    texts, root = application_texts(Path(request.application))
    record = TrainingRecord(
        model=request.retraining["model"], version=version, artifact_sha256=address, request=asked, dataset=dataset,
        application_hash=plan.application_hash, application=texts, application_root=root, environment=training_environment(),
        split=asdict(proposal.split), trials=[dict(trial) for trial in proposal.trials], passed=passed, reason=reason, details=details,
        library_text=proposal.artifact.library_text,
    )  # fmt: skip
    records = TrainingRecords(request.artifacts)
    put_patiently("record", lambda: records.put(record))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What a training has come to."""

    bench: TrainingContext
    dataset: dict[str, str]
    proposal: Proposal
    champion: ServedModel | None
    predecessor: ServedModel | None
    reverse: GateVerdict | None


def _proposed(
    request: JobRequest, plan: Plan, model: ModelPlan, version: str, lake: Lake, store: ArtifactStore, rows: TrainingSet, told: TrainingObserver,
    kept: FitAnswers,
) -> _Attempt:  # fmt: skip
    """Make the candidate; of a model that learns its classes with as many of them as there are rows for."""
    if not model.learns_classes:
        return _attempt(request, plan, model, version, lake, store, rows, told, kept)
    known: Sequence[str] = request.classes
    if not known and request.champion:
        # It was trained when the classes were declared.
        known = Artifact.from_bytes(store.get(request.champion)).signature.classes
    *more, fewest = choices_of_classes(rows, known, model.settings.training.min_positives)
    for classes in more:
        try:
            return _attempt(request, plan, model.with_classes(classes), version, lake, store, _of_classes(rows, classes), told, kept)
        except TooFewRowsError as error:
            log.info("too few rows with %d classes, trying with fewer: %s", len(classes), error)
    return _attempt(request, plan, model.with_classes(fewest), version, lake, store, _of_classes(rows, fewest), told, kept)


def _of_classes(rows: TrainingSet, classes: tuple[str, ...]) -> TrainingSet:
    others, made = left_out(rows, classes), numbered(rows, classes)
    return TrainingSet(made.rows, {**made.version, **({"classes_left_out": others} if others else {})})


def _attempt(
    request: JobRequest, plan: Plan, model: ModelPlan, version: str, lake: Lake, store: ArtifactStore, rows: TrainingSet, told: TrainingObserver,
    kept: FitAnswers,
) -> _Attempt:  # fmt: skip
    bench = replace(_bench(request, plan, model, version, lake, rows), told=told, kept=kept)
    champion, predecessor = (_load(store, address, bench.kind) for address in (request.champion, request.predecessor))
    if not len(bench.examples):
        others = int(rows.version["rows_of_other_views"])
        raise TooFewRowsError(f"expected labelled rows, found none{f' but {others} of other versions of the views' if others else ''}")
    looked = Learnable(bench) if champion is None else learnable(bench, champion)
    bench, reverse = looked.bench, None
    if request.retraining["trigger"] in (*_UNHURRIED, ALARM):
        # Before anybody is judged by such labels.
        expect_right_labels(looked)
    if request.retraining["trigger"] == ALARM and predecessor is not None and champion is not None:
        # Whether the model itself is what has gone wrong, and not the world: then its recipe has to pass again, or the model before comes back.
        reverse = does_better(bench, predecessor, champion, bench.spent)
        bench = replace(bench, spent=(*bench.spent, *reverse.spent), is_admitted=bench.is_admitted and not reverse.passed)
    if champion is not None:
        expect_new_rows(replace(looked, bench=bench), champion)
        if request.retraining["trigger"] in _UNHURRIED and refits_only(bench):
            begin_ms = max(int(bench.examples.request_ms.min()), bench.end_ms - bench.settings.gate.span)
            expect_usual_requests(bench, *requests_between(lake, model, begin_ms, bench.end_ms, int(rows.version[f"{VECTORS}_version"])))
    proposal = first_model(bench) if champion is None else successor(bench, champion)
    return _Attempt(bench, rows.version, looked.told(proposal), champion, predecessor, reverse)


def _bench(request: JobRequest, plan: Plan, model: ModelPlan, version: str, lake: Lake, rows: TrainingSet) -> TrainingContext:
    before, kind, definitions = int(request.retraining["journal_time"]), model.kind, feature_versions(plan)
    served = served_scores(lake, model.name, kind, rows.rows, before, int(rows.version[f"{OUTCOMES}_version"]))
    examples = examples_of(rows, model)
    label = model.settings.label
    horizon_ms = label_horizon_ms(examples, before, label.max_delay, label.on_timeout != "unlabelled") if len(examples) else 0
    return TrainingContext(
        model=model.name, version=version, settings=model.settings, kind=kind, examples=examples, served=served,
        features=features_digest({name: definitions[name] for name in model.features}), end_ms=before, horizon_ms=horizon_ms,
        incumbent=request.recipe, is_admitted=request.admitted, is_searched=_search_turn(request, model) == "now",
        spent=tuple((int(at), float(level)) for at, level in request.spent),
    )  # fmt: skip


def _search_turn(request: JobRequest, model: ModelPlan) -> Literal["now", "later", "no"]:
    asked, own = request.retraining, model.settings
    return search_turn(asked["trigger"], request.admitted, request.searched_ms, int(asked["journal_time"]), own.training.search_every, own.stages)


def _load(store: ArtifactStore, address: str, kind: Kind) -> ServedModel | None:
    if not address:
        return None
    return as_kind(OnnxScorer(Artifact.from_bytes(store.get(address))), kind)


def _failed(version: str, reason: str, details: dict[str, str] | None = None) -> JobResult:
    return JobResult(finished=False, reason=reason, version=version, details=details or {})


def work(source: Path, target: Path) -> None:
    """Read a request, write a result with what it cost, and on the way how far it has come; what may pass ends the process with `PASSING`."""
    request = JobRequest(**json.loads(source.read_text(encoding="utf-8")))

    def told(step: str, done: int, of: int) -> None:
        _write(progress_file(source), [step, done, of])

    begun = time.process_time()
    try:
        result = run(request, told, KeptFiles(trials_folder(source), training_environment()))
    except (TransientError, MemoryError, OSError):
        log.exception("the training was ended by something that may pass")
        raise SystemExit(PASSING) from None
    _write(target, asdict(replace(result, cpu_s=time.process_time() - begun)))


def _write(target: Path, content: object) -> None:
    part = target.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.rename(target)


if __name__ == "__main__":
    raise SystemExit(serve(work))
