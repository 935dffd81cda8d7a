"""A trainer whose trainings refit what serves, but for one that finds another recipe."""

import numpy as np

from tests.linear_models import linear_artifact
from tidemill.services.retraining.domain.first_stage import REFIT
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult, version_name
from tidemill.services.retraining.processes.trainer import Trainer
from tidemill.shared.models.artifacts import ArtifactStore


class RecipeTrainer(Trainer):
    """The training of number `new` finds a recipe that is much better; every other one after the first refits what serves."""

    new = 2

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts, self._made = artifacts, 0
        self._request: JobRequest | None = None

    def start(self, request: JobRequest) -> None:
        """Begin one."""
        self._request = request

    def poll(self) -> JobResult:
        """Return its result."""
        assert self._request is not None
        self._made += 1
        version = version_name(self._request.retraining)
        is_new = self._made == self.new
        recipe = "steep" if is_new else self._request.recipe or "flat"
        details = {"recipe": recipe, "admission": "first model" if self._made == 1 else "gate" if is_new else REFIT}
        slope = (1.5 if recipe == "steep" else 0.2) + 0.001 * self._made
        made = linear_artifact("binary", np.array([[slope], [-slope]]), version, (), model="faulty")
        address = self._artifacts.put(made.to_bytes())
        return JobResult(
            finished=True, reason="because", version=version, passed=True,
            artifact_sha256=address, artifact_uri=self._artifacts.uri_of(address), details=details
        )  # fmt: skip
