"""Why a request got its score: the served vector, and what each feature contributed to the answer of the version that gave it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from tidemill.offline.trace import UnknownRequestError, rows_of, served_vector
from tidemill.shared.application.plan import Plan
from tidemill.shared.lake.names import PREDICTIONS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.explanation import Explainer
from tidemill.shared.models.stored_versions import artifact_of


@dataclass(frozen=True, slots=True)
class FeatureShare:
    """What one feature added to the explained value."""

    feature: str
    value: float | str | None
    contribution: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class AnswerExplained:
    """One model's answer to a request.

    Attributes
    ----------
    method, unit, base
        As of `tidemill.shared.models.shapley.Explanation`.
    shares
        The largest first.
    reproduced
        Whether the stored model gives the served score for the served vector, bit for bit.
    """

    model: str
    version: str
    score: float
    method: str
    unit: str
    base: float
    shares: list[FeatureShare]
    reproduced: bool

    @property
    def value(self) -> float:
        """The base and all shares together."""
        return self.base + sum(share.contribution for share in self.shares)


def explain_request(plan: Plan, lake: Lake, store: ArtifactStore, request_id: str, model: str | None = None) -> list[AnswerExplained]:
    """Explain the answers to a request, by model.

    Parameters
    ----------
    model
        One of the models; all that answered when None.

    Raises
    ------
    UnknownRequestError
        There is no such request, or no model answered it: the fallback has no reasons.
    UnknownVersionError
        The store of models does not have the version that answered.
    UnfitArchiveError, ArtifactError, TransientError
    """
    vector = served_vector(plan, lake, request_id)
    at = (ds.field("journal_partition") == vector["_journal_partition"]) & (ds.field("journal_offset") == vector["_journal_offset"])
    answers = [row for row in rows_of(lake, PREDICTIONS, at) if model in (None, row["model"])]
    served = [row for row in answers if row["variant"] != "default"]
    if not served:
        answered = ", ".join(f"{row['model']} by its fallback ({row['reason']})" for row in answers) or "no model"
        raise UnknownRequestError(f"expected an answer of {model or 'a model'} to {request_id}, found {answered}")
    return [_explained(plan, vector, row, artifact_of(store, row["model"], row["model_version"])) for row in served]


def _explained(plan: Plan, vector: dict[str, Any], answer: dict[str, Any], artifact: Artifact) -> AnswerExplained:
    name, version = answer["model"], answer["model_version"]
    explainer, columns = Explainer(artifact), artifact.signature.columns
    types = {field.name: field.type for field in plan.vector_arrow}
    batch = pa.RecordBatch.from_arrays([pa.array([vector[one.name]], types[one.name]) for one in columns], names=[one.name for one in columns])
    row = artifact.signature.encode(batch)
    explanation = explainer.explain(row[0], int(answer["predicted"]))
    scored = np.asarray(explainer.scorer.score(batch))[0]
    score = float(scored[int(answer["predicted"])] if np.ndim(scored) else scored)
    values = zip(columns, explanation.contributions.tolist(), explanation.standard_errors.tolist(), strict=True)
    shares = [FeatureShare(one.name, vector[one.name], contribution, error) for one, contribution, error in values]
    return AnswerExplained(
        name,
        version,
        answer["score"],
        explanation.method,
        explanation.unit,
        explanation.base,
        sorted(shares, key=lambda share: -abs(share.contribution)),
        score == answer["score"],
    )
