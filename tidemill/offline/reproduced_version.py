"""What came of training one version again, or why nothing did."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tidemill.offline.reproduce import PrunedDatasetError, Reproduction, ReproductionError, Train, reproduce
from tidemill.services.retraining.processes.job import run
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.plan import Plan
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.errors import TransientError
from tidemill.shared.models.artifacts import ArtifactError

Status = Literal["identical", "differs", "pruned", "failed", "unrecorded"]


@dataclass(frozen=True, slots=True)
class ReproducedVersion:
    """One version.

    Attributes
    ----------
    status
        ``identical``: every byte is the same; ``differs``; ``pruned``: the rows that it was learned from are no longer in the archive; ``failed``:
        it cannot be made again for another reason; ``unrecorded``: its model is there and no record of its training.
    reason
        Why it was not made again; empty where it was.
    reproduction
        What came of it; None where it was not made again.
    """

    model: str
    version: str
    status: Status
    reason: str = ""
    reproduction: Reproduction | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as ``tidemill reproduce --json`` prints it: the reproduction's fields beside these."""
        made = asdict(self.reproduction) if self.reproduction is not None else {}
        return {
            **made,
            "model": self.model,
            "version": self.version,
            "status": self.status,
            "reason": self.reason,
            "identical": self.status == "identical",
        }

    @classmethod
    def of_json(cls, answer: Mapping[str, Any]) -> "ReproducedVersion":
        """Read what `as_json` has given."""
        made = None
        if "made_sha256" in answer:
            fields = {name: answer[name] for name in Reproduction.__slots__}
            environment = {name: (then, now) for name, (then, now) in answer["environment"].items()}
            made = Reproduction(**{**fields, "environment": environment, "notes": tuple(answer["notes"])})
        return cls(answer["model"], answer["version"], answer["status"], answer["reason"], made)


def train_again(plan: Plan, lake_uri: str, artifacts: str, model: str, version: str, train: Train = run) -> ReproducedVersion:
    """Train a version again (`reproduce`), and say of one that cannot be made again why.

    Raises
    ------
    UnknownTrainingError
        No such version is on record.
    """
    try:
        made = reproduce(plan, Lake(lake_uri, plan.application.app), lake_uri, artifacts, model, version, train)
    except PrunedDatasetError as problem:
        return ReproducedVersion(model, version, "pruned", str(problem))
    except (ReproductionError, ArtifactError, ApplicationError, TransientError) as problem:
        return ReproducedVersion(model, version, "failed", str(problem))
    return ReproducedVersion(model, version, "identical" if made.is_identical else "differs", reproduction=made)
