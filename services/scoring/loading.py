"""From a deployment to what answers for its model."""

import logging

from tidemill.services.scoring.domain.serving import Challenge, Serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.models.artifacts import Artifact, ArtifactError, ArtifactStore
from tidemill.shared.models.deployments import Challenger, ModelDeployment
from tidemill.shared.models.onnx_scorer import OnnxScorer

log = logging.getLogger(__name__)
FAILED = "model_failed"


def load_serving(plan: Plan, artifacts: ArtifactStore, model: str, champion: ModelDeployment) -> Serving:
    """Load a champion; one that cannot be loaded, or that expects features or answers a question the application no longer has, is the default.

    Raises
    ------
    TransientError
        The store does not answer.
    """
    try:
        scorer = OnnxScorer(Artifact.from_bytes(artifacts.get(champion.artifact_sha256)))
        scorer.check_inputs(plan.vector_arrow)
        if model in plan.models:
            scorer.check_kind(plan.models[model].kind_of_version(scorer.kind))
    except ArtifactError as error:
        log.error("model cannot be served", extra={"model": model, "version": champion.version, "error": str(error)})
        return Serving(champion.version, champion.sequence, champion.threshold, None, FAILED)
    return Serving(champion.version, champion.sequence, champion.threshold, scorer, None, scorer.signature.interval)


def challenge_of(challenger: Challenger, serving: Serving) -> Challenge:
    """Return a challenger with what would answer for it; in shadow its share does not count."""
    return Challenge(serving, challenger.artifact_sha256, challenger.share if challenger.stage != "shadow" else 0.0, challenger.stage)


def deployment_of(challenger: Challenger) -> ModelDeployment:
    """Return a challenger as the version in service that it would be."""
    return ModelDeployment(challenger.version, challenger.artifact_sha256, challenger.sequence, challenger.threshold)
