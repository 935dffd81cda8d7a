"""What served, and what was tried beside it, from each lifecycle event on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tidemill.services.scoring.domain.latency import LATENCY
from tidemill.services.scoring.domain.serving import Serving
from tidemill.services.scoring.loading import FAILED, challenge_of, deployment_of, load_serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.deployments import Lifecycle

States = Mapping[tuple[int, int], Serving]
"""What served, by the sequences of the events that began champion and challenger; -1: no challenger."""


def served_states(plan: Plan, artifacts: ArtifactStore, model: str, events: Sequence[dict[str, Any]]) -> States:
    """Return every state that a model's lifecycle has been in, with its models loaded once each."""
    lifecycle, states = Lifecycle(), dict[tuple[int, int], Serving]()
    champions: dict[int, Serving] = {}
    tried: dict[str, Serving] = {}
    for event in events:
        lifecycle = lifecycle.apply(event)
        champion, challenger = lifecycle.champion, lifecycle.challenger
        if champion is None:
            continue
        if champion.sequence not in champions:
            champions[champion.sequence] = load_serving(plan, artifacts, model, champion)
        now = champions[champion.sequence]
        states.setdefault((champion.sequence, -1), now)
        if challenger is None:
            continue
        address = challenger.artifact_sha256
        if address not in tried:
            tried[address] = load_serving(plan, artifacts, model, deployment_of(challenger))
        stage = replace(tried[address], version=challenger.version, deployment_sequence=challenger.sequence, threshold=challenger.threshold)
        states[champion.sequence, challenger.sequence] = replace(now, challenge=challenge_of(challenger, stage))
    return states


def without_models(now: Serving) -> Mapping[str, Sequence[Serving]]:
    """Return what may have answered although the models can be loaded, by the reason: what has passed by now, in processing time."""
    if now.scorer is None and now.challenge is None:
        return {}
    if now.challenge is None:
        return {reason: [now.without_model(reason)] for reason in (LATENCY, FAILED)}
    late = now.without_model(LATENCY).without_challenger(LATENCY)
    failed = [now.without_model(FAILED), now.without_challenger(FAILED), now.without_model(FAILED).without_challenger(FAILED)]
    return {LATENCY: [late], FAILED: failed}
