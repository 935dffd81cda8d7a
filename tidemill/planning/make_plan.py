"""From a changed application and what runs to a plan."""

from pathlib import Path

from tidemill.planning.application_plan import ApplicationPlan, BackfillCost
from tidemill.planning.compare import compare
from tidemill.planning.difference import Difference, Refusal
from tidemill.planning.fold_rate import fold_rate
from tidemill.planning.running_application import RunningApplication
from tidemill.shared.application.application_files import content_digest
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.models.artifacts import Artifact, ArtifactError, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer


def make_plan(running: RunningApplication, application: Path, *, measured: bool = True) -> ApplicationPlan:
    """Say what an application would change of what runs, and what of it cannot be applied. Nothing is changed.

    Parameters
    ----------
    measured
        Whether it is measured how long the backfill takes.

    Raises
    ------
    ApplicationError
        The application is wrong.
    """
    new = load_plan(application)
    compared = compare(running.plan, new)
    refusals = [*compared.refusals, *_champions_columns(running, new)]
    difference = Difference(compared.changes, tuple(refusals), compared.warnings, compared.columns, compared.topics, compared.restarts)
    notes: list[str] = []
    rate = None
    if measured and difference.restarts and difference.restarts != ("alerts",):
        rate, why = fold_rate(new, running.lake)
        if why and running.lake:
            notes.append(f"how fast features are folded here was not measured: {why}")
    backfill = BackfillCost(difference.columns.to_backfill, running.journal_records if len(difference.restarts) > 1 else 0, rate)
    return ApplicationPlan(
        new.application.app,
        running.state(difference),
        content_digest(application),
        running.plan.application_hash,
        new.application_hash,
        difference,
        backfill,
        None,
        tuple(notes),
    )


def _champions_columns(running: RunningApplication, new: Plan) -> list[Refusal]:
    """A champion that reads what the vectors would not have any more would be answered for by the fallback."""
    store = ArtifactStore(running.artifacts) if running.artifacts else None
    columns = []
    for name, champion in running.champions.items():
        if name not in new.models or store is None:
            continue
        try:
            scorer = OnnxScorer(Artifact.from_bytes(store.get(champion.artifact_sha256)))
        except ArtifactError:  # Nothing answers with it as it is; alerts tell, and the change makes it no worse.
            continue
        try:
            scorer.check_inputs(new.vector_arrow)
        except ArtifactError as problem:
            columns.append(
                Refusal(
                    "champion",
                    f"models.{name}",
                    f"its champion {champion.version} could not answer any more: {problem}",
                    "keep what it reads until a model that does not read it serves, or declare a model of another name beside it",
                )
            )
    return columns
