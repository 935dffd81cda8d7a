"""Light checks of a refit whose recipe is admitted: it is not judged again, but one that has gone wrong does not serve."""

from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.retraining.domain.calibration_check import compare_calibration
from tidemill.services.retraining.domain.examples import DAY_MS, Examples
from tidemill.services.retraining.domain.verdict import GateVerdict
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.paired_test import paired_block_test
from tidemill.shared.statistics.propensity import weighted_mean

_LEVEL = 0.05
_SAMPLE = 64
_LEAST_ROWS, _LEAST_BLOCKS = 100, 3


class AnsweringModel(Protocol):
    """A model as it answers."""

    def score(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """Return the scores of each row, shape (n,) or (n, K)."""
        ...


def missing_inputs(kind: Kind, scorer: AnsweringModel, features: pa.RecordBatch) -> str:
    """Say which input a model cannot do without; empty when it answers whichever one is missing, and when all are.

    Parameters
    ----------
    features
        Rows that were served; a few of them are looked at.
    """
    rows = features.slice(0, _SAMPLE)
    nothing = [pa.nulls(rows.num_rows, column.type) for column in rows.columns]
    silent = [
        name
        for place, name in enumerate(rows.schema.names)
        if not kind.is_score(scorer.score(rows.set_column(place, rows.schema.field(place), nothing[place]))).all()
    ]
    if rows.num_rows and not kind.is_score(scorer.score(pa.RecordBatch.from_arrays(nothing, schema=rows.schema))).all():
        silent.append("all inputs")
    return f"missing inputs: expected an answer when an input is missing, found none without {', '.join(silent)}" if silent else ""


def check_refit(kind: Kind, rows: Examples, refit: AnsweringModel, other: AnsweringModel, whose: str, block_ms: int = DAY_MS) -> GateVerdict:
    """Refuse a refit that does worse than an older model on rows which it has learned and the other has not.

    Those rows cannot judge it, because it knows them; but one that fits them worse has gone wrong. The same holds for its calibration there.

    Parameters
    ----------
    rows
        What the refit has learned and the other model has not.
    whose
        What the other model is called in a refusal.
    block_ms
        Requests of so long share their error.
    """
    if problem := missing_inputs(kind, refit, rows.features):
        return GateVerdict(False, problem, {})
    mine = refit.score(rows.features)
    if not (answered := kind.is_score(mine)).all():
        return GateVerdict(False, f"scores: expected finite scores, the refit has none for {int((~answered).sum())} of {len(answered)} rows", {})
    days = rows.request_ms // block_ms
    figures = {"refit_rows": float(len(rows))}
    if len(rows) < _LEAST_ROWS or len(np.unique(days)) < _LEAST_BLOCKS:
        return GateVerdict(True, f"{len(rows)} rows that {whose} did not know hold nothing against it", figures)
    theirs = other.score(rows.features)
    losses, other_losses = kind.losses(rows.labels, mine), kind.losses(rows.labels, theirs)
    loss, other_loss = weighted_mean(losses, rows.weights), weighted_mean(other_losses, rows.weights)
    figures |= {"refit_loss": loss, "refit_other_loss": other_loss}
    test = paired_block_test(other_losses - losses, days, rows.weights)
    if not test.p_value_less >= _LEVEL:
        words = f"expected it to fit what it has learned no worse than {whose}, found a loss of {loss:.4f} against {other_loss:.4f}"
        return GateVerdict(False, f"refit: {words}, p = {test.p_value_less:.2g}", figures)
    if kind.name != "regression":
        check = compare_calibration(kind, rows.labels, mine, theirs, days, rows.weights)
        figures |= {"refit_calibration_difference": check.difference}
        if check.problem:
            return GateVerdict(False, f"refit {check.problem}", figures)
    return GateVerdict(True, f"loss {loss:.4f} against {other_loss:.4f} of {whose} on the rows that it adds", figures)
