"""What serves and what is tried of every model: a fold of the deployments log and of the revisions, with the scorers loaded."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tidemill.services.scoring.domain.serving import Challenge, Serving
from tidemill.services.scoring.loading import FAILED, challenge_of, deployment_of, load_serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.log.errors import TransientError
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.deployments import Challenger, Lifecycles, ModelDeployment

_FIRST_RETRY_MS, _LONGEST_RETRY_MS = 1_000, 60_000
_REVISED = ("model_version", "sequence", "lower_offset", "upper_offset")
_LOG = logging.getLogger(__name__)


class DeployedModels:
    """Champions and challengers as the log says, loaded.

    A model that cannot be loaded is tried again after 1 s, then 2, up to every minute. Meanwhile a champion's requests get the default, and a
    challenger has no score for them, which costs no answer.

    Attributes
    ----------
    serving
        By model.
    head
        Sequence of the last lifecycle event that counted, of all models; -1 before the first.
    newest
        Each model's newest revision.
    """

    def __init__(self, plan: Plan, artifacts: ArtifactStore) -> None:
        self._plan = plan
        self._artifacts = artifacts
        self._lifecycles = Lifecycles()
        self._due: dict[tuple[str, bool], tuple[int, int]] = {}
        self.serving: dict[str, Serving] = {}
        self.head = -1
        self.newest: dict[str, dict[str, Any]] = {}

    def follow(self, events: Iterable[dict[str, Any]]) -> None:
        """Fold events of the lifecycle log, and load the champions and challengers they end with.

        Raises
        ------
        TransientError
            The store does not answer for a champion. For a challenger nothing is held up: it is tried again.
        """
        before, run = self._lifecycles, list(events)
        self._lifecycles = before.follow(run)
        for name in dict.fromkeys(str(event["model"]) for event in run):
            now, old = self._lifecycles.of(name), before.of(name)
            self.head = max(self.head, now.head)
            if now.champion is None:
                self.serving.pop(name, None)
                continue
            if now.champion != old.champion:
                challenge = self.serving[name].challenge if name in self.serving else None
                self.serving[name] = replace(self._revised(name, load_serving(self._plan, self._artifacts, name, now.champion)), challenge=challenge)
                self._due.pop((name, False), None)
            if now.challenger != old.challenger:
                self.serving[name] = replace(self.serving[name], challenge=self._challenge(name, now.challenger))
                self._due.pop((name, True), None)

    def revise(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take the newest revision of each model, and let its version serve with it."""
        for record in records:
            self.newest[record["model"]] = {name: record[name] for name in _REVISED}
        self.serving = {name: self._revised(name, serving) for name, serving in self.serving.items()}

    def try_again(self, elapsed_ms: int) -> None:
        """Load what could not be loaded: a share may lag behind, a volume come late, a damaged file be repaired."""
        for name, serving in list(self.serving.items()):
            lifecycle = self._lifecycles.of(name)
            if serving.reason == FAILED and lifecycle.champion is not None and self._is_due(name, elapsed_ms, challenger=False):
                again = self._loaded(name, lifecycle.champion)
                self._tried(name, again, elapsed_ms, challenger=False)
                self.serving[name] = replace(self._revised(name, again), challenge=serving.challenge)
            challenge = serving.challenge
            if challenge is not None and challenge.serving.reason == FAILED and self._is_due(name, elapsed_ms, challenger=True):
                tried = self._challenge(name, lifecycle.challenger)
                if tried is not None:
                    self._tried(name, tried.serving, elapsed_ms, challenger=True)
                self.serving[name] = replace(self.serving[name], challenge=tried)

    def _challenge(self, name: str, challenger: Challenger | None) -> Challenge | None:
        if challenger is None:
            return None
        return challenge_of(challenger, self._loaded(name, deployment_of(challenger)))

    def _loaded(self, name: str, deployment: ModelDeployment) -> Serving:
        """Load a model; where the store does not answer, it is one that cannot be loaded."""
        try:
            return load_serving(self._plan, self._artifacts, name, deployment)
        except TransientError as problem:
            _LOG.warning("the store of models does not answer", extra={"model": name, "version": deployment.version, "error": str(problem)})
            return Serving(deployment.version, deployment.sequence, deployment.threshold, None, FAILED)

    def _is_due(self, name: str, elapsed_ms: int, *, challenger: bool) -> bool:
        return elapsed_ms >= self._due.setdefault((name, challenger), (elapsed_ms + _FIRST_RETRY_MS, _FIRST_RETRY_MS))[0]

    def _tried(self, name: str, tried: Serving, elapsed_ms: int, *, challenger: bool) -> None:
        if tried.reason != FAILED:
            _LOG.warning("model is served at last", extra={"model": name, "version": tried.version})
            del self._due[name, challenger]
            return
        longer_ms = min(2 * self._due[name, challenger][1], _LONGEST_RETRY_MS)
        self._due[name, challenger] = elapsed_ms + longer_ms, longer_ms

    def _revised(self, name: str, serving: Serving) -> Serving:
        """Return what serves, with the model's newest revision if that is of its version."""
        newest = self.newest.get(name)
        if newest is None or serving.scorer is None or newest["model_version"] != serving.version:
            return serving
        return replace(serving, interval=(newest["lower_offset"], newest["upper_offset"]), revision=newest["sequence"])
