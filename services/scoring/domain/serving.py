"""What answers for a model at the moment, and what scores its requests beside it."""

from dataclasses import dataclass, replace

from tidemill.shared.models.deployments import Stage
from tidemill.shared.models.onnx_scorer import Scorer


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers for a model at the moment: a scorer, or the reason why there is none.

    Attributes
    ----------
    interval, revision
        Regression: what is added to a score for the ends of its prediction interval, and the revision that says so; -1: the model itself.
    challenge
        What scores the same requests beside it; None without a challenger.
    """

    version: str = "default"
    deployment_sequence: int = -1
    threshold: float = 0.5
    scorer: Scorer | None = None
    reason: str | None = "no_model"
    interval: tuple[float, float] | None = None
    revision: int = -1
    challenge: "Challenge | None" = None

    @property
    def reason_without_score(self) -> str | None:
        """Why a request has no score of it: there is no model, or the model gave no number."""
        return self.reason if self.scorer is None else "model_failed"

    def without_model(self, reason: str) -> "Serving":
        """Return what answers in place of the model: the default, under the same deployment, beside the same challenger."""
        return replace(self, scorer=None, reason=reason)

    def without_challenger(self, reason: str) -> "Serving":
        """Return the same beside a challenger that has no score for any request."""
        if self.challenge is None:
            return self
        return replace(self, challenge=replace(self.challenge, serving=self.challenge.serving.without_model(reason)))


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenger: it scores every request of its model, and answers a share of them.

    Attributes
    ----------
    serving
        As what it would answer.
    artifact_sha256
        Salts the choice of the requests that it answers.
    share
        Of the requests by their keys; 0 in shadow.
    stage
        Of its trial, as the lifecycle says.
    """

    serving: Serving
    artifact_sha256: str
    share: float = 0.0
    stage: Stage = "shadow"
