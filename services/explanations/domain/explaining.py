"""Predictions of one version, explained: base, the largest contributions, and what is left."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.models.additive_parts import row_sums
from tidemill.shared.models.explanation import Explainer
from tidemill.shared.models.shapley import Explanations

FALLBACK, ARTIFACT, VECTOR, SCORE, PARTS = "fallback", "artifact", "vector", "score", "parts"
"""Why there are no contributions, beside what hinders a model (`Explainer.hindrance`)."""
CONTRIBUTION = pa.struct(
    [
        pa.field("feature", pa.string(), nullable=False),
        pa.field("number", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("contribution", pa.float64(), nullable=False),
    ]
)
_LINKS = {"log-odds": "logit", "margin": "softmax", "score": "identity", "probability": "identity"}
_OF_THE_PREDICTION = (
    "request_id", "model", "journal_partition", "journal_offset", "journal_time", "event_time", "model_version", "deployment_sequence", "variant",
    "score", "predicted", "predicted_label",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest contributions of some rows.

    Attributes
    ----------
    columns : shape (n, top)
        Places among the model's columns, of equal contributions the first one first.
    contributions : shape (n, top)
    rest : shape (n,)
        Sum of all others.
    """

    columns: NDArray[np.int64]
    contributions: NDArray[np.float64]
    rest: NDArray[np.float64]

    @classmethod
    def of(cls, contributions: NDArray[np.float64], top: int) -> "Largest":
        """Choose them.

        >>> Largest.of(np.array([[0.5, -2.0, 1.0, 0.25]]), 2)
        Largest(columns=array([[1, 2]]), contributions=array([[-2.,  1.]]), rest=array([0.75]))
        """
        columns = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :top]
        others = contributions.copy()
        np.put_along_axis(others, columns, 0.0, axis=1)
        return cls(columns, np.take_along_axis(contributions, columns, axis=1), row_sums(others))


def explain_predictions(
    predictions: pa.RecordBatch, vectors: pa.RecordBatch, has_vector: NDArray[np.bool_], explainer: Explainer | None, top: int
) -> pa.RecordBatch:
    """Return one explanation for each prediction of a version, in their order; each as it would be alone.

    Parameters
    ----------
    predictions
        Columns of the prediction schema, all of one model and version.
    vectors
        What they answer, row by row; any row where there is none.
    has_vector : shape (n,)
    explainer
        The version; None where the store does not have it, or it answered nothing.
    top
        How many features are named.
    """
    n = predictions.num_rows
    reasons = np.full(n, "", object)
    reasons[np.asarray(predictions.column("variant").to_pylist(), object) == "default"] = FALLBACK
    reasons[(reasons == "") & ~has_vector] = VECTOR
    whole = explainer.hindrance if explainer is not None else ARTIFACT
    if explainer is not None and not {column.name for column in explainer.scorer.columns} <= set(vectors.schema.names):
        whole = VECTOR
    if whole is not None:
        reasons[reasons == ""] = whole
    rows = np.flatnonzero(reasons == "")
    if explainer is None or not len(rows):
        return _records(predictions, reasons, None)
    own = vectors.take(pa.array(rows))
    answers = predictions.column("predicted").to_numpy()[rows].tolist()
    explained = explainer.explain_rows(explainer.scorer.signature.encode(own), answers)
    reasons[rows[explained.scores != predictions.column("score").to_numpy()[rows]]] = SCORE
    reasons[rows[~explained.adds_up & (reasons[rows] == "")]] = PARTS
    return _records(predictions, reasons, _Found(explained, rows, Largest.of(explained.contributions, top), own, explainer))


@dataclass(frozen=True, slots=True)
class _Found:
    """Explanations of some of the rows; `vectors` are of those rows."""

    explanations: Explanations
    rows: NDArray[np.int64]
    largest: Largest
    vectors: pa.RecordBatch
    explainer: Explainer


def _records(predictions: pa.RecordBatch, reasons: NDArray[np.object_], explained: _Found | None) -> pa.RecordBatch:
    n, good = predictions.num_rows, reasons == ""
    base, rest, rest_features = np.zeros(n), np.zeros(n), np.zeros(n, np.int32)
    if explained is not None:
        base[explained.rows], rest[explained.rows] = explained.explanations.base, explained.largest.rest
        rest_features[good] = len(explained.explainer.scorer.columns) - explained.largest.columns.shape[1]
    columns = {
        **{name: predictions.column(name) for name in _OF_THE_PREDICTION},
        "not_explained": pa.array([reason or None for reason in reasons.tolist()], pa.string()),
        "method": _where(good, "" if explained is None else explained.explanations.method),
        "link": _where(good, "" if explained is None else _LINKS[explained.explanations.unit]),
        "base": pa.array(base, mask=~good),
        "contributions": _contributions(good, explained),
        "rest": pa.array(rest, mask=~good),
        "rest_features": pa.array(rest_features),
    }
    return pa.RecordBatch.from_pydict(columns)


def _where(good: NDArray[np.bool_], word: str) -> pa.Array:
    return pa.array([word if one else None for one in good.tolist()], pa.string())


def _contributions(good: NDArray[np.bool_], explained: _Found | None) -> pa.Array:
    """Return a list of the largest for each row, empty where it is not explained."""
    width = 0 if explained is None else explained.largest.columns.shape[1]
    stops = pa.array(np.concatenate([[0], np.cumsum(good * width)]).astype(np.int32))
    if explained is None or not width:
        return pa.ListArray.from_arrays(stops, pa.array([], CONTRIBUTION))
    kept = np.flatnonzero(good[explained.rows])
    chosen = explained.largest.columns[kept].ravel()
    of_row = np.repeat(kept, width)
    names, numbers, texts = np.empty(len(chosen), object), np.full(len(chosen), np.nan), np.full(len(chosen), None, object)
    for place, column in enumerate(explained.explainer.scorer.columns):
        at = np.flatnonzero(chosen == place)
        if not len(at):
            continue
        names[at], values = column.name, explained.vectors.column(column.name)
        if column.type == "string":
            texts[at] = values.take(pa.array(of_row[at])).to_pylist()
        else:
            numbers[at] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)[of_row[at]]
    parts = [
        pa.array(names, pa.string()),
        pa.array(numbers, mask=np.isnan(numbers)),
        pa.array(texts, pa.string()),
        pa.array(explained.largest.contributions[kept].ravel()),
    ]
    return pa.ListArray.from_arrays(stops, pa.StructArray.from_arrays(parts, fields=list(CONTRIBUTION)))
